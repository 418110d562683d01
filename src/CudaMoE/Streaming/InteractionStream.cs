namespace CudaMoE.Streaming;

/// <summary>How a log becomes windows.</summary>
public sealed record WindowOptions
{
    /// <summary>Windows of equal count, at least 2: the last one is tested on only.</summary>
    public int Windows { get; init; } = 10;

    /// <summary>Events that a user must have in a window; the others' are left out of it. 1 keeps all.</summary>
    public int UserCore { get; init; } = 5;

    /// <summary>Events that an item must have in a window; 1 keeps all.</summary>
    public int ItemCore { get; init; } = 1;

    /// <summary>The share at the end of each window that validates, 0 to below 1.</summary>
    public double ValidationFraction { get; init; } = 0.15;
}

/// <summary>
/// A log cut into windows, each as the model meets it: first its own events, then the next one's. Users and items have numbers in the order in which
/// the windows show them first, so a model that has seen t windows needs no number of a later one.
/// </summary>
/// <remarks>
/// Window w of T holds the events [w N / T, (w + 1) N / T) of N, so counts differ by at most one, and events of the same time may lie on both sides of a
/// cut. Inside a window users and items with too few events are dropped, again and again until nothing changes. A window may be left without events; it
/// then trains nothing and tests nothing.
/// </remarks>
public sealed class InteractionStream
{
    private InteractionStream(IReadOnlyList<StreamWindow> windows, IReadOnlyList<string> users, IReadOnlyList<string> items)
    {
        Windows = windows;
        Users = users;
        Items = items;
    }

    /// <summary>The windows, oldest first.</summary>
    public IReadOnlyList<StreamWindow> Windows { get; }

    /// <summary>Names of the users by number.</summary>
    public IReadOnlyList<string> Users { get; }

    /// <summary>Names of the items by number; number 0 is padding and has an empty name.</summary>
    public IReadOnlyList<string> Items { get; }

    /// <summary>Cuts a log.</summary>
    /// <exception cref="ArgumentOutOfRangeException">An option is out of its range.</exception>
    public static InteractionStream Cut(InteractionLog log, WindowOptions options)
    {
        ArgumentNullException.ThrowIfNull(log);
        ArgumentNullException.ThrowIfNull(options);
        ArgumentOutOfRangeException.ThrowIfLessThan(options.Windows, 2);
        ArgumentOutOfRangeException.ThrowIfLessThan(options.UserCore, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(options.ItemCore, 1);
        if (options.ValidationFraction is not (>= 0 and < 1))
            throw new ArgumentOutOfRangeException(nameof(options), options.ValidationFraction, "the validation fraction must be at least 0 and below 1");
        int[] users = new int[log.Users.Count];
        int[] items = new int[log.Items.Count];
        List<string> userNames = [];
        List<string> itemNames = [""];
        List<StreamWindow> windows = [];
        for (int w = 0; w < options.Windows; w++)
        {
            int begin = (int)((long)w * log.Rows.Count / options.Windows);
            int end = (int)((w + 1L) * log.Rows.Count / options.Windows);
            List<Interaction> kept = Core(log, begin, end, options);
            Interaction[] rows = new Interaction[kept.Count];
            for (int i = 0; i < rows.Length; i++)
            {
                (int user, int item) = kept[i];
                if (users[user] == 0)
                {
                    userNames.Add(log.Users[user]);
                    users[user] = userNames.Count;
                }

                if (items[item] == 0)
                {
                    items[item] = itemNames.Count;
                    itemNames.Add(log.Items[item]);
                }

                rows[i] = new(users[user] - 1, items[item]);
            }

            windows.Add(new(w + 1, rows, (int)Math.Floor(rows.Length * (1 - options.ValidationFraction)), itemNames.Count - 1));
        }

        return new(windows, userNames, itemNames);
    }

    private static List<Interaction> Core(InteractionLog log, int begin, int end, WindowOptions options)
    {
        List<Interaction> rows = [];
        for (int i = begin; i < end; i++)
            rows.Add(log.Rows[i]);
        while (true)
        {
            Dictionary<int, int> users = [];
            Dictionary<int, int> items = [];
            foreach ((int user, int item) in rows)
            {
                users[user] = users.GetValueOrDefault(user) + 1;
                items[item] = items.GetValueOrDefault(item) + 1;
            }

            if (rows.RemoveAll(row => users[row.User] < options.UserCore || items[row.Item] < options.ItemCore) == 0)
                return rows;
        }
    }
}

/// <summary>One window of a stream.</summary>
public sealed class StreamWindow
{
    private readonly Interaction[] _rows;

    internal StreamWindow(int number, Interaction[] rows, int trainRows, int largestItem)
    {
        Number = number;
        _rows = rows;
        TrainRows = trainRows;
        LargestItem = largestItem;
    }

    /// <summary>Its number, from 1.</summary>
    public int Number { get; }

    /// <summary>Its events in the order of time; users from 0, items from 1.</summary>
    public ReadOnlySpan<Interaction> Rows => _rows;

    /// <summary>Events at the beginning that train; the others validate.</summary>
    public int TrainRows { get; }

    /// <summary>The events that train.</summary>
    public ReadOnlySpan<Interaction> Train => Rows[..TrainRows];

    /// <summary>The events that validate.</summary>
    public ReadOnlySpan<Interaction> Validation => Rows[TrainRows..];

    /// <summary>The largest item number that this and earlier windows have.</summary>
    public int LargestItem { get; }
}
