using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Streaming;
using CudaMoE.Tests.Data;
using CudaMoE.Tests.Support;
using Xunit.Abstractions;

namespace CudaMoE.Tests.Streaming;

/// <summary>Logs, windows, sequences and shares against code that says what they are in the plainest way.</summary>
public sealed class InteractionStreamTests(ITestOutputHelper output) : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("log.csv", ",", false)]
    [InlineData("log.tsv.gz", "\t", true)]
    public void Read_TextOrGzip_SortsByTimeAndKeepsTheOrderOfEqualTimes(string name, string separator, bool gzip)
    {
        string text = string.Join('\n', "who,what,when", "anna,x,5", "bob,y,3", "anna,y,5", "carl,x,-1.5", "bob,z,3").Replace(",", separator, StringComparison.Ordinal);
        string file = gzip ? _folder.Write(name, TestFiles.Gzip(text)) : _folder.Write(name, text);

        InteractionLog log = InteractionLog.Read([file], new() { Separator = separator }, "who", "what", "when");

        Assert.Equal(["carl x", "bob y", "bob z", "anna x", "anna y"], log.Rows.Select(row => $"{log.Users[row.User]} {log.Items[row.Item]}"));
        Assert.Equal(["anna", "bob", "carl"], log.Users);
        Assert.Equal(["x", "y", "z"], log.Items);
    }

    [Fact]
    public void Read_SeveralFiles_AreOneLog()
    {
        string first = _folder.Write("a.csv", "u,i,t\n1,5,30\n2,6,10\n");
        string second = _folder.Write("b.csv", "u,i,t\n2,5,20\n1,7,30\n");
        InteractionLog log = InteractionLog.Read([first, second], new(), "u", "i", "t");
        Assert.Equal(["2 6", "2 5", "1 5", "1 7"], log.Rows.Select(row => $"{log.Users[row.User]} {log.Items[row.Item]}"));
    }

    [Theory]
    [InlineData("u,i,t\n1,,3\n", "line 2", "column \"i\"", "is empty")]
    [InlineData("u,i,t\n1,5,soon\n", "line 2", "column \"t\"", "\"soon\" is not a finite number")]
    [InlineData("u,i,time\n1,5,3\n", "data.time_column", "\"t\"", "does not have")]
    public void Read_BadFile_NamesPlaceAndRule(string text, params string[] expected)
    {
        string file = _folder.Write("bad.csv", text);
        DataException error = Assert.Throws<DataException>(() => InteractionLog.Read([file], new(), "u", "i", "t"));
        Assert.All(expected, part => Assert.Contains(part, error.Message, StringComparison.Ordinal));
    }

    [Fact]
    public void Cut_RandomLogs_AsTheNaiveOne()
    {
        for (int round = 0; round < 60; round++)
        {
            int seed = Environment.TickCount + (round * 7919);
            output.WriteLine($"seed {seed}");
            Random random = new(seed);
            var events = Enumerable.Range(0, random.Next(0, 200))
                .Select(_ => ($"u{random.Next(12)}", $"i{random.Next(15)}", (double)random.Next(40))).ToArray();
            WindowOptions options = new()
            {
                Windows = random.Next(2, 7),
                UserCore = random.Next(1, 5),
                ItemCore = random.Next(1, 4),
                ValidationFraction = random.Next(3) * 0.15,
            };

            InteractionStream stream = InteractionStream.Cut(InteractionLog.Of(events), options);

            (string User, string Item)[] sorted = [.. events.OrderBy(e => e.Item3).Select(e => (e.Item1, e.Item2))];
            List<string> users = [];
            List<string> items = [""];
            for (int w = 0; w < options.Windows; w++)
            {
                var rows = sorted.Where((_, i) => i >= w * sorted.Length / options.Windows && i < (w + 1) * sorted.Length / options.Windows).ToList();
                for (int before = -1; before != rows.Count;)
                {
                    before = rows.Count;
                    var now = rows;
                    rows = [.. rows.Where(row => now.Count(r => r.User == row.User) >= options.UserCore && now.Count(r => r.Item == row.Item) >= options.ItemCore)];
                }

                users.AddRange(rows.Select(row => row.User).Distinct().Except(users).ToArray());
                items.AddRange(rows.Select(row => row.Item).Distinct().Except(items).ToArray());
                StreamWindow window = stream.Windows[w];
                Assert.Equal(rows.Select(row => new Interaction(users.IndexOf(row.User), items.IndexOf(row.Item))), window.Rows.ToArray());
                Assert.Equal((int)Math.Floor(rows.Count * (1 - options.ValidationFraction)), window.Train.Length);
                Assert.Equal(window.Rows.Length, window.Train.Length + window.Validation.Length);
                Assert.Equal(items.Count - 1, window.LargestItem);
                Assert.Equal(w + 1, window.Number);
            }

            Assert.Equal(users, stream.Users);
            Assert.Equal(items, stream.Items);
        }
    }

    [Fact]
    public void Cut_Counts_DifferByAtMostOne()
    {
        InteractionLog log = InteractionLog.Of(Enumerable.Range(0, 103).Select(i => ("u", $"i{i}", (double)i)));
        int[] counts = [.. InteractionStream.Cut(log, new() { UserCore = 1 }).Windows.Select(window => window.Rows.Length)];
        Assert.Equal(103, counts.Sum());
        Assert.InRange(counts.Max() - counts.Min(), 0, 1);
    }

    /// <summary>Dropping a user may drop an item, and that another user: only repetition ends it.</summary>
    [Fact]
    public void Cut_ChainOfDrops_GoesOnUntilNothingChanges()
    {
        InteractionLog log = InteractionLog.Of([("a", "x", 0), ("b", "x", 1), ("b", "y", 2), ("c", "y", 3), ("c", "z", 4), ("d", "w", 5)]);
        InteractionStream stream = InteractionStream.Cut(log, new() { Windows = 2, UserCore = 2, ItemCore = 2, ValidationFraction = 0 });
        Assert.All(stream.Windows, window => Assert.Equal(0, window.Rows.Length));
        Assert.Equal([""], stream.Items);
    }

    [Fact]
    public void Cut_EmptyLogAndEmptyWindow_AreWindowsWithoutRows()
    {
        InteractionStream none = InteractionStream.Cut(InteractionLog.Of([]), new());
        Assert.Equal(10, none.Windows.Count);
        Assert.All(none.Windows, window => Assert.Equal((0, 0, 0), (window.Rows.Length, window.TrainRows, window.LargestItem)));
        Assert.Equal(0, SequenceSet.Of(none.Windows[0].Train, 10).Count);

        var events = Enumerable.Range(0, 20).Select(i => (i is >= 10 and < 20 ? $"u{i}" : "u", $"i{i}", (double)i));
        InteractionStream half = InteractionStream.Cut(InteractionLog.Of(events), new() { Windows = 2, UserCore = 2 });
        Assert.Equal(10, half.Windows[0].Rows.Length);
        Assert.Equal(0, half.Windows[1].Rows.Length);
        Assert.Equal(10, half.Windows[1].LargestItem);
    }

    [Fact]
    public void Sequences_OneUser_AreItsLastItems()
    {
        Interaction[] rows = [.. Enumerable.Range(1, 20).Select(item => new Interaction(3, item))];
        SequenceSet set = SequenceSet.Of(rows, history: 10);
        Assert.Equal(1, set.Count);
        Assert.Equal(3, set.User(0));
        Assert.Equal(Enumerable.Range(10, 11), set.Items(0).ToArray());
        Assert.Equal(0, SequenceSet.Of(rows.AsSpan(0, 1), 10).Count);
    }

    [Fact]
    public void Sequences_RandomSlices_AsTheNaiveOnes()
    {
        for (int round = 0; round < 60; round++)
        {
            int seed = Environment.TickCount + (round * 104729);
            output.WriteLine($"seed {seed}");
            Random random = new(seed);
            Interaction[] rows = [.. Enumerable.Range(0, random.Next(0, 80)).Select(_ => new Interaction(random.Next(10), random.Next(1, 9)))];
            int history = random.Next(1, 8);
            SequenceSet set = SequenceSet.Of(rows, history);
            var expected = rows.GroupBy(row => row.User).Where(group => group.Count() > 1).OrderBy(group => group.Key).ToArray();
            Assert.Equal(expected.Select(group => group.Key), Enumerable.Range(0, set.Count).Select(set.User));
            for (int s = 0; s < set.Count; s++)
                Assert.Equal(expected[s].Select(row => row.Item).TakeLast(history + 1), set.Items(s).ToArray());

            double[] shares = set.Popularity(8);
            int[] all = [.. Enumerable.Range(0, set.Count).SelectMany(s => set.Items(s).ToArray())];
            Assert.Equal(all, set.AllItems.ToArray());
            Assert.Equal(1, shares[0]);
            for (int item = 1; item <= 8; item++)
                Assert.Equal(all.Length == 0 ? 0 : (double)all.Count(i => i == item) / all.Length, shares[item], 15);
        }
    }

    [Fact]
    public void History_OfAUser_IsAllThatWasAdded()
    {
        UserHistory history = new();
        history.Add([new(2, 5), new(0, 7), new(2, 5)]);
        history.Add([new(2, 1)]);
        Assert.Equal([5, 5, 1], history.Items(2));
        Assert.Equal([7], history.Items(0));
        Assert.Empty(history.Items(1));
        Assert.Empty(history.Items(99));
    }
}
