namespace CudaMoE.Streaming;

/// <summary>
/// The last items of every user in a slice of a window: the model reads all but the last of them and predicts, at each place, the next one. Users with
/// fewer than two events in the slice have none.
/// </summary>
public sealed class SequenceSet
{
    private readonly int[] _users;
    private readonly int[] _starts;
    private readonly int[] _items;

    private SequenceSet(int[] users, int[] starts, int[] items)
    {
        _users = users;
        _starts = starts;
        _items = items;
    }

    /// <summary>Sequences.</summary>
    public int Count => _users.Length;

    /// <summary>Items of all sequences, repeats included.</summary>
    public ReadOnlySpan<int> AllItems => _items;

    /// <summary>Collects the sequences of a slice, users in ascending order.</summary>
    /// <param name="rows">Events in the order of time.</param>
    /// <param name="history">Inputs of a sequence, L; at most L + 1 items are kept.</param>
    public static SequenceSet Of(ReadOnlySpan<Interaction> rows, int history)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(history, 1);
        SortedDictionary<int, List<int>> byUser = [];
        foreach ((int user, int item) in rows)
        {
            if (!byUser.TryGetValue(user, out List<int>? items))
                byUser.Add(user, items = []);
            items.Add(item);
        }

        List<int> users = [];
        List<int> starts = [0];
        List<int> all = [];
        foreach ((int user, List<int> items) in byUser)
        {
            if (items.Count < 2)
                continue;
            users.Add(user);
            all.AddRange(items.TakeLast(history + 1));
            starts.Add(all.Count);
        }

        return new([.. users], [.. starts], [.. all]);
    }

    /// <summary>The user of a sequence.</summary>
    public int User(int sequence) => _users[sequence];

    /// <summary>The items of a sequence, 2 to L + 1, oldest first.</summary>
    public ReadOnlySpan<int> Items(int sequence) => _items.AsSpan(_starts[sequence].._starts[sequence + 1]);

    /// <summary>
    /// For each item its share of the items of all sequences, which are cut to their last L + 1; 1 for padding (item 0) and 0 for items that are in none.
    /// XSMoE's in-batch loss takes the logarithm of it off the scores.
    /// </summary>
    /// <param name="largestItem">The largest item number.</param>
    public double[] Popularity(int largestItem)
    {
        double[] shares = new double[largestItem + 1];
        foreach (int item in _items)
            shares[item]++;
        for (int item = 1; item <= largestItem; item++)
            shares[item] /= Math.Max(1, _items.Length);
        shares[0] = 1;
        return shares;
    }
}

/// <summary>What each user met so far: items that a ranking must not offer again.</summary>
public sealed class UserHistory
{
    private readonly List<List<int>> _items = [];

    /// <summary>Adds events.</summary>
    public void Add(ReadOnlySpan<Interaction> rows)
    {
        foreach ((int user, int item) in rows)
        {
            while (_items.Count <= user)
                _items.Add([]);
            _items[user].Add(item);
        }
    }

    /// <summary>The items of a user in the order in which they were added, repeats included; empty for one without.</summary>
    public IReadOnlyList<int> Items(int user) => user < _items.Count ? _items[user] : [];
}
