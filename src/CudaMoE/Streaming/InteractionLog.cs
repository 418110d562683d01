using System.Text;
using CudaMoE.Data;
using CudaMoE.Description;

namespace CudaMoE.Streaming;

/// <summary>One event: a user met an item. The numbers are places in lists of names.</summary>
/// <param name="User">The user.</param>
/// <param name="Item">The item.</param>
public readonly record struct Interaction(int User, int Item);

/// <summary>
/// Who met what, in the order of time. Events of the same time keep the order in which the files hold them, file after file, so the same files
/// always give the same order.
/// </summary>
public sealed class InteractionLog
{
    private InteractionLog(Interaction[] rows, string[] users, string[] items)
    {
        Rows = rows;
        Users = users;
        Items = items;
    }

    /// <summary>The events, oldest first; users and items are places in <see cref="Users"/> and <see cref="Items"/>.</summary>
    public IReadOnlyList<Interaction> Rows { get; }

    /// <summary>Names of the users, in the order in which the files name them first.</summary>
    public IReadOnlyList<string> Users { get; }

    /// <summary>Names of the items, in the order in which the files name them first.</summary>
    public IReadOnlyList<string> Items { get; }

    /// <summary>Makes a log of events in memory and sorts them by time; equal times keep their order.</summary>
    /// <param name="events">User, item and time of each event.</param>
    /// <exception cref="DataException">A time is not finite.</exception>
    public static InteractionLog Of(IEnumerable<(string User, string Item, double Time)> events)
    {
        Builder builder = new();
        foreach ((string user, string item, double time) in events)
        {
            if (!double.IsFinite(time))
                throw new DataException($"event {builder.Count + 1} has the time {time}; it must be a finite number");
            builder.Add(Encoding.UTF8.GetBytes(user), Encoding.UTF8.GetBytes(item), time);
        }

        return builder.Build();
    }

    /// <summary>Reads delimited text files, plain or gzip, in constant memory beside the events themselves.</summary>
    /// <param name="files">The files.</param>
    /// <param name="format">How they are written.</param>
    /// <param name="userColumn">The column of the user's name, any text.</param>
    /// <param name="itemColumn">The column of the item's name, any text.</param>
    /// <param name="timeColumn">The column of the time, a number of any unit.</param>
    /// <exception cref="DataException">A file cannot be read, lacks a column, or a field is empty or no number; the message names file, line and
    /// column.</exception>
    public static InteractionLog Read(IReadOnlyList<string> files, FileFormat format, string userColumn, string itemColumn, string timeColumn)
    {
        Builder builder = new();
        foreach (string file in files)
        {
            using DelimitedReader reader = new(file, format);
            int user = reader.IndexOf(userColumn, "data.user_column");
            int item = reader.IndexOf(itemColumn, "data.item_column");
            int time = reader.IndexOf(timeColumn, "data.time_column");
            while (reader.Read())
                builder.Add(Name(reader, user), Name(reader, item), reader.Number(time, "a time must be one, in any unit"));
        }

        return builder.Build();
    }

    private static ReadOnlySpan<byte> Name(DelimitedReader reader, int column)
    {
        ReadOnlySpan<byte> text = reader.Field(column);
        return reader.IsMissing(text) ? throw reader.Error(column, "the field is empty; every event needs a user and an item") : text;
    }

    /// <summary>Collects events and gives names their places.</summary>
    private sealed class Builder
    {
        private readonly Names _users = new();
        private readonly Names _items = new();
        private readonly List<Interaction> _rows = [];
        private readonly List<double> _times = [];

        public int Count => _rows.Count;

        public void Add(ReadOnlySpan<byte> user, ReadOnlySpan<byte> item, double time)
        {
            _rows.Add(new(_users.Place(user), _items.Place(item)));
            _times.Add(time);
        }

        public InteractionLog Build()
        {
            int[] order = [.. Enumerable.Range(0, _rows.Count)];
            Array.Sort(order, (a, b) => _times[a] == _times[b] ? a.CompareTo(b) : _times[a].CompareTo(_times[b]));
            return new([.. order.Select(row => _rows[row])], _users.List, _items.List);
        }
    }

    /// <summary>Places of names in the order of their first appearance.</summary>
    private sealed class Names
    {
        private readonly Dictionary<byte[], int> _places = new(Utf8Comparer.Instance);

        public string[] List => [.. _places.OrderBy(entry => entry.Value).Select(entry => Encoding.UTF8.GetString(entry.Key))];

        public int Place(ReadOnlySpan<byte> name)
        {
            Dictionary<byte[], int>.AlternateLookup<ReadOnlySpan<byte>> places = _places.GetAlternateLookup<ReadOnlySpan<byte>>();
            if (!places.TryGetValue(name, out int place))
            {
                place = _places.Count;
                places[name] = place;
            }

            return place;
        }
    }
}
