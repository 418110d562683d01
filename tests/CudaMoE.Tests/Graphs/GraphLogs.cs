using System.Globalization;
using System.Text;
using CudaMoE.Graphs;

namespace CudaMoE.Tests.Graphs;

/// <summary>Random interactions, as a file and as what a reference needs.</summary>
internal sealed class GraphLogs
{
    public static readonly string[] Tasks = ["view", "cart", "buy"];

    /// <summary>The tasks of each pair of ids as a mask.</summary>
    public SortedDictionary<(string User, string Item), int> Masks { get; } = [];

    public List<(string User, string Item, string Event, double Time)> Rows { get; } = [];

    public static GraphLogs Random(int seed, int rows, int users, int items, int firstUser = 0, int firstItem = 0)
    {
        Random random = new(seed);
        GraphLogs log = new();
        for (int row = 0; row < rows; row++)
        {
            int user = random.Next(users) + firstUser;
            log.Add($"u{user}", $"i{((user % 3) + (3 * random.Next((items + 2) / 3))) % items + firstItem}", random.Next(Tasks.Length), row);
        }

        return log;
    }

    public void Add(string user, string item, int task, double time)
    {
        Rows.Add((user, item, Tasks[task], time));
        Masks.TryGetValue((user, item), out int mask);
        Masks[(user, item)] = mask | (1 << task);
    }

    public void Add(GraphLogs other)
    {
        foreach ((string user, string item, string kind, double time) in other.Rows)
            Add(user, item, Array.IndexOf(Tasks, kind), time);
    }

    public InteractionLog Write(string path, bool times = false)
    {
        StringBuilder text = new("user,item,event,time\n");
        foreach ((string user, string item, string kind, double time) in Rows)
            text.Append(CultureInfo.InvariantCulture, $"{user},{item},{kind},{time}\n");
        File.WriteAllText(path, text.ToString());
        return new() { Sources = [new(path, InteractionKind.Events)], TimeColumn = times ? "time" : null };
    }

    public static MacroGraphOptions Options(InteractionLog log) => new() { Log = log, Tasks = Tasks, UserNodes = 4, ItemNodes = 3, Threads = 1 };
}
