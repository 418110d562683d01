using System.Text;
using CudaMoE.Checkpoints;
using CudaMoE.Description;
using CudaMoE.Streaming.Xsmoe;

namespace CudaMoE.Streaming;

/// <summary>What a window leaves for the next one: the kept weights, the numbers of experts, their utilisation, and the results.</summary>
internal sealed record StreamCheckpoint
{
    public required Dictionary<string, float[]> Weights { get; init; }

    public required IReadOnlyList<SideShape> Sides { get; init; }

    public required double[][][] Utilization { get; init; }

    public required StreamWindowResult Result { get; init; }

    /// <summary>Optimiser steps since the stream began.</summary>
    public required long Steps { get; init; }

    /// <summary>Writes a checkpoint folder.</summary>
    public CheckpointContent Content(StreamDescription description, IReadOnlyDictionary<string, long[]> shapes) => new()
    {
        WriteModel = stream => stream.Write(Encoding.UTF8.GetBytes(StreamDescriptionJson.Write(description))),
        AddWeights = writer =>
        {
            foreach ((string name, float[] values) in Weights)
                writer.Add(name, TensorDataType.F32, shapes[name], values);
        },
        State = new() { Step = Steps, Epoch = Result.Epochs, Batch = 0, Seed = description.Training.Seed, Running = Values() },
    };

    /// <summary>Reads a checkpoint folder of a stream with these modalities.</summary>
    /// <param name="folder">The folder.</param>
    /// <param name="names">Names of the modalities.</param>
    /// <param name="widths">Widths of their states.</param>
    /// <param name="layers">Layers of their ladders.</param>
    /// <exception cref="CheckpointFormatException">It is of another kind of run.</exception>
    public static StreamCheckpoint Read(CheckpointFolder folder, IReadOnlyList<string> names, IReadOnlyList<int> widths, int layers)
    {
        IReadOnlyDictionary<string, IReadOnlyList<double>> values = folder.State.Running;
        using SafetensorsReader reader = folder.OpenWeights();
        Dictionary<string, float[]> weights = [];
        foreach (TensorEntry entry in reader.Header.Tensors)
        {
            float[] tensor = new float[entry.Count];
            reader.ReadSingles(entry.Name, tensor);
            weights.Add(entry.Name, tensor);
        }

        SideShape[] sides =
        [
            .. names.Select((name, side) => new SideShape
            {
                Name = name,
                Width = widths[side],
                Layers = [.. Enumerable.Range(0, layers).Select(j => Get($"{name}.layers.{j}.experts", 2)).Select(pair => new SideExperts((int)pair[0], (int)pair[1]))],
            }),
        ];
        IReadOnlyList<double> result = Get("window", 7);
        return new()
        {
            Weights = weights,
            Sides = sides,
            Utilization = [.. sides.Select(side => side.Layers.Select((experts, j) => Get($"{side.Name}.layers.{j}.utilization", experts.Count + 1).ToArray()).ToArray())],
            Steps = folder.State.Step,
            Result = new()
            {
                Window = (int)result[0],
                TrainSequences = (int)result[1],
                Epochs = (int)result[2],
                BestEpoch = (int)result[3],
                Loss = result[4],
                Parameters = (long)result[5],
                TrainedParameters = (long)result[6],
                Validation = Metrics("validation"),
                Test = Metrics("test"),
                Experts = ExpertCounts(sides),
            },
        };

        IReadOnlyList<double> Get(string key, int count) => values.TryGetValue(key, out IReadOnlyList<double>? list) && list.Count == count
            ? list
            : throw new CheckpointFormatException(folder.Folder, $"has no {count} values \"{key}\"; it is not of a stream with these modalities and layers");

        RankingMetrics? Metrics(string key) =>
            values.TryGetValue(key, out IReadOnlyList<double>? list) && list.Count == 5 ? new((int)list[0], list[1], list[2], list[3], list[4]) : null;
    }

    /// <summary>Experts of each mixture by name.</summary>
    public static IReadOnlyDictionary<string, int> ExpertCounts(IReadOnlyList<SideShape> sides) =>
        sides.SelectMany(side => side.Layers.Select((experts, j) => (Name: $"{side.Name}.layers.{j}", experts.Count))).ToDictionary(entry => entry.Name, entry => entry.Count);

    private Dictionary<string, IReadOnlyList<double>> Values()
    {
        Dictionary<string, IReadOnlyList<double>> values = new()
        {
            ["window"] = [Result.Window, Result.TrainSequences, Result.Epochs, Result.BestEpoch, Result.Loss, Result.Parameters, Result.TrainedParameters],
        };
        Add("validation", Result.Validation);
        Add("test", Result.Test);
        for (int side = 0; side < Sides.Count; side++)
        {
            for (int j = 0; j < Sides[side].Layers.Count; j++)
            {
                values[$"{Sides[side].Name}.layers.{j}.experts"] = [Sides[side].Layers[j].Count, Sides[side].Layers[j].Frozen];
                values[$"{Sides[side].Name}.layers.{j}.utilization"] = Utilization[side][j];
            }
        }

        return values;

        void Add(string key, RankingMetrics? metrics)
        {
            if (metrics is not null)
                values[key] = [metrics.Sequences, metrics.HitRate10, metrics.Ndcg10, metrics.HitRate20, metrics.Ndcg20];
        }
    }
}
