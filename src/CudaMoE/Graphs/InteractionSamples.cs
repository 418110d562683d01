using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using CudaMoE.Data;

namespace CudaMoE.Graphs;

/// <summary>
/// Cuts a log without times into a part for a graph and samples to train and test on, so that what is predicted is not in the graph: the pairs of a user
/// and an item fall into one of the three at random, whole with all their tasks. A sampled pair is followed by pairs of its user with items that the user
/// never met, whose labels are all 0. The pairs are held in memory.
/// </summary>
public sealed record InteractionSamples
{
    private const int Tries = 1000;

    /// <summary>The interactions.</summary>
    public required InteractionLog Log { get; init; }

    /// <summary>The tasks: label columns of the files.</summary>
    public required IReadOnlyList<string> Tasks { get; init; }

    /// <summary>Part of the pairs to train on, above 0.</summary>
    public double TrainFraction { get; init; } = 0.2;

    /// <summary>Part of the pairs to test on, above 0; with <see cref="TrainFraction"/> below 1.</summary>
    public double TestFraction { get; init; } = 0.1;

    /// <summary>Drawn pairs for each sampled one, 0 to 1000.</summary>
    public int Negatives { get; init; } = 4;

    /// <summary>Whether drawn items come as often as they occur in the log, so that popularity tells nothing; else all items alike.</summary>
    public bool PopularNegatives { get; init; }

    /// <summary>Seed of all draws.</summary>
    public ulong Seed { get; init; } = 1;

    /// <summary>Writes graph.csv, train.csv and test.csv with the columns user, item and the tasks.</summary>
    /// <param name="folder">An existing or new folder; files of these names are replaced.</param>
    /// <param name="cancellation">Stops it; files that are not whole are not left behind.</param>
    /// <returns>Rows of each file.</returns>
    /// <exception cref="DataException">A value or a file breaks a rule.</exception>
    public InteractionSampleCounts Write(string folder, CancellationToken cancellation = default)
    {
        if (!(TrainFraction > 0 && TestFraction > 0 && TrainFraction + TestFraction < 1))
            throw new DataException(FormattableString.Invariant($"the parts to train and to test on are {TrainFraction} and {TestFraction}; both must be above 0 and their sum below 1"));
        if (Negatives is < 0 or > 1000)
            throw new DataException($"negatives is {Negatives}; it must be 0 to 1000");
        new MacroGraphOptions { Log = Log, Tasks = Tasks }.Validate();
        Pairs pairs = Read(cancellation);
        int count = pairs.Keys.Count;
        int test = (int)Math.Round(TestFraction * count);
        int train = (int)Math.Round(TrainFraction * count);
        if (test < 1 || train < 1 || test + train >= count)
            throw new DataException($"the log has {count} pairs of a user and an item, too few to cut");
        Directory.CreateDirectory(folder);
        Permutation order = new(count, Seed, 0);
        return new(
            WriteFile(folder, "graph.csv", pairs, place => order[place] >= test + train, negatives: 0, cancellation),
            WriteFile(folder, "train.csv", pairs, place => order[place] >= test && order[place] < test + train, Negatives, cancellation),
            WriteFile(folder, "test.csv", pairs, place => order[place] < test, Negatives, cancellation));
    }

    private Pairs Read(CancellationToken cancellation)
    {
        Pairs pairs = new();
        double before = Log.TimeColumn is null
            ? double.PositiveInfinity
            : throw new DataException("a log with times is cut by time, see 'cudamoe graph build --time'");
        new InteractionReader(Log, Tasks, cancellation).Read(before, pairs.Add, _ => { });
        return pairs;
    }

    private long WriteFile(string folder, string name, Pairs pairs, Predicate<int> takes, int negatives, CancellationToken cancellation)
    {
        using GraphWorkFolder work = new(Path.Combine(folder, name));
        long rows = 0;
        using (StreamWriter file = new(work.File, append: false, new UTF8Encoding(encoderShouldEmitUTF8Identifier: false)))
        {
            file.Write(string.Create(CultureInfo.InvariantCulture, $"user,item,{string.Join(',', Tasks)}\n"));
            for (int place = 0; place < pairs.Keys.Count; place++)
            {
                if (!takes(place))
                    continue;
                cancellation.ThrowIfCancellationRequested();
                (int user, int item) = pairs.At(place);
                WriteRow(file, pairs, user, item, pairs.Masks[pairs.Keys[place]]);
                rows++;
                ulong random = SignProjection.Signs((ulong)place, Seed);
                for (int drawn = 0, tries = 0; drawn < negatives && tries < Tries; tries++)
                {
                    random = SignProjection.Signs(random, Seed);
                    int other = PopularNegatives ? pairs.At((int)(random % (ulong)pairs.Keys.Count)).Item : (int)(random % (ulong)pairs.Items.Count);
                    if (pairs.Masks.ContainsKey(Pairs.Key(user, other)))
                        continue;
                    WriteRow(file, pairs, user, other, 0);
                    drawn++;
                    rows++;
                }
            }
        }

        work.Publish();
        return rows;
    }

    private void WriteRow(StreamWriter file, Pairs pairs, int user, int item, int mask)
    {
        file.Write(Field(pairs.Users.Text(user)));
        file.Write(',');
        file.Write(Field(pairs.Items.Text(item)));
        for (int task = 0; task < Tasks.Count; task++)
            file.Write(((mask >> task) & 1) == 1 ? ",1" : ",0");
        file.Write('\n');
    }

    private static string Field(ReadOnlySpan<byte> text)
    {
        string value = Encoding.UTF8.GetString(text);
        return value.AsSpan().ContainsAny(",\"\n\r") ? $"\"{value.Replace("\"", "\"\"", StringComparison.Ordinal)}\"" : value;
    }

    /// <summary>The pairs of the log in the order of their appearance.</summary>
    private sealed class Pairs
    {
        public NodeIndex Users { get; } = new();

        public NodeIndex Items { get; } = new();

        public List<long> Keys { get; } = [];

        public Dictionary<long, int> Masks { get; } = [];

        public static long Key(int user, int item) => ((long)user << 32) | (uint)item;

        public void Add(ReadOnlySpan<byte> user, ReadOnlySpan<byte> item, int task)
        {
            long key = Key(Users.Add(user, out _), Items.Add(item, out _));
            ref int mask = ref CollectionsMarshal.GetValueRefOrAddDefault(Masks, key, out bool known);
            mask |= 1 << task;
            if (!known)
                Keys.Add(key);
        }

        public (int User, int Item) At(int place) => ((int)(Keys[place] >> 32), (int)(uint)Keys[place]);
    }
}

/// <summary>Rows of the files that a log was cut into.</summary>
/// <param name="Graph">Pairs of graph.csv.</param>
/// <param name="Train">Rows of train.csv.</param>
/// <param name="Test">Rows of test.csv.</param>
public sealed record InteractionSampleCounts(long Graph, long Train, long Test);
