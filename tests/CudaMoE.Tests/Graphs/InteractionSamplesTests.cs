using CudaMoE.Data;
using CudaMoE.Graphs;
using CudaMoE.Tests.Support;

namespace CudaMoE.Tests.Graphs;

public sealed class InteractionSamplesTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();
    private readonly int _seed = Random.Shared.Next();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Parts_HoldEachPairOnceAndDrawnPairsThatNobodyMet(bool popular)
    {
        GraphLogs log = GraphLogs.Random(_seed, 600, 40, 90);
        InteractionSamples samples = new() { Log = log.Write(_folder["log.csv"]), Tasks = GraphLogs.Tasks, Negatives = 3, PopularNegatives = popular, Seed = (ulong)_seed };
        InteractionSampleCounts counts = samples.Write(_folder["out"]);
        Dictionary<(string, string), int> found = [];
        long drawn = 0;
        foreach ((string name, long rows) in new[] { ("graph", counts.Graph), ("train", counts.Train), ("test", counts.Test) })
        {
            string[] lines = File.ReadAllLines(Path.Combine(_folder["out"], name + ".csv"));
            Assert.Equal("user,item,view,cart,buy", lines[0]);
            Assert.Equal(rows, lines.Length - 1);
            foreach (string[] fields in lines.Skip(1).Select(line => line.Split(',')))
            {
                int mask = Enumerable.Range(0, 3).Sum(task => int.Parse(fields[2 + task]) << task);
                if (mask == 0)
                {
                    Assert.False(log.Masks.ContainsKey((fields[0], fields[1])));
                    Assert.NotEqual("graph", name);
                    drawn++;
                    continue;
                }

                found.Add((fields[0], fields[1]), mask);
            }
        }

        Assert.Equal(log.Masks.OrderBy(pair => pair.Key), found.OrderBy(pair => pair.Key));
        int held = (int)Math.Round(0.2 * log.Masks.Count) + (int)Math.Round(0.1 * log.Masks.Count);
        Assert.Equal(log.Masks.Count - held, counts.Graph);
        Assert.Equal(3 * held, drawn);
        byte[] before = File.ReadAllBytes(Path.Combine(_folder["out"], "train.csv"));
        samples.Write(_folder["out"]);
        Assert.Equal(before, File.ReadAllBytes(Path.Combine(_folder["out"], "train.csv")));
    }

    [Fact]
    public void WrongParts_AreRefused()
    {
        InteractionSamples good = new() { Log = GraphLogs.Random(_seed, 100, 10, 10).Write(_folder["log.csv"]), Tasks = GraphLogs.Tasks };
        Refused("are 0.9 and 0.1", good with { TrainFraction = 0.9 });
        Refused("are NaN and 0.1", good with { TrainFraction = double.NaN });
        Refused("negatives is -1", good with { Negatives = -1 });
        Refused("cut by time", good with { Log = good.Log with { TimeColumn = "time" } });
        Refused("too few to cut", good with { TrainFraction = 1e-6 });

        void Refused(string message, InteractionSamples samples) => Assert.Contains(message, Assert.Throws<DataException>(() => samples.Write(_folder["out"])).Message);
    }
}
