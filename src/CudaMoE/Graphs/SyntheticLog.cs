using System.Buffers.Text;
using CudaMoE.Data;

namespace CudaMoE.Graphs;

/// <summary>
/// A log for trials of size: users and items belong to groups; three in four interactions stay in the user's group, and low numbered items of a group are
/// met more often (the square of a uniform number). Events are view, cart and buy as 16 : 3 : 1; the time is the row's number.
/// </summary>
public sealed record SyntheticLog
{
    /// <summary>Rows.</summary>
    public required long Interactions { get; init; }

    /// <summary>Users.</summary>
    public required int Users { get; init; }

    /// <summary>Items.</summary>
    public required int Items { get; init; }

    /// <summary>Groups.</summary>
    public required int Groups { get; init; }

    /// <summary>Seed.</summary>
    public required ulong Seed { get; init; }

    /// <summary>Writes the log as CSV; the file appears whole or not at all.</summary>
    /// <exception cref="DataException">A number is out of its range.</exception>
    public void Write(string path, CancellationToken cancellation = default)
    {
        if (Interactions < 1 || Users < 1 || Groups < 1 || Items < Groups)
            throw new DataException($"a log of {Interactions} interactions of {Users} users with {Items} items in {Groups} groups cannot be made; each is at least 1, and a group has an item");
        using GraphWorkFolder work = new(path);
        using (FileStream file = new(work.File, FileMode.CreateNew, FileAccess.Write, FileShare.None, 1 << 20))
        {
            file.Write("user,item,event,time\n"u8);
            ulong place = 0;
            double Uniform() => (SignProjection.Signs(place++, Seed) >> 11) * (1.0 / (1UL << 53));
            Span<byte> line = stackalloc byte[96];
            for (long row = 0; row < Interactions; row++)
            {
                if (row % (1 << 16) == 0)
                    cancellation.ThrowIfCancellationRequested();
                int user = (int)(Uniform() * Users);
                int group = Uniform() < 0.75 ? user % Groups : (int)(Uniform() * Groups);
                double popularity = Uniform();
                int item = ((int)(popularity * popularity * (Items / Groups)) * Groups) + group;
                double kind = Uniform();
                int length = 0;
                Number(line, ref length, 'u', user);
                Number(line, ref length, 'i', item);
                ReadOnlySpan<byte> name = kind < 0.8 ? "view"u8 : kind < 0.95 ? "cart"u8 : "buy"u8;
                name.CopyTo(line[length..]);
                length += name.Length;
                line[length++] = (byte)',';
                Utf8Formatter.TryFormat(row, line[length..], out int written);
                length += written;
                line[length++] = (byte)'\n';
                file.Write(line[..length]);
            }
        }

        work.Publish();
    }

    private static void Number(Span<byte> line, ref int length, char prefix, long value)
    {
        line[length++] = (byte)prefix;
        Utf8Formatter.TryFormat(value, line[length..], out int written);
        length += written;
        line[length++] = (byte)',';
    }
}
