using System.Text;
using CudaMoE.Data;

namespace CudaMoE.Graphs;

/// <summary>Takes an interaction; the texts are valid during the call.</summary>
internal delegate void InteractionVisitor(ReadOnlySpan<byte> user, ReadOnlySpan<byte> item, int task);

/// <summary>Streams the interactions of a log, file after file, in constant memory.</summary>
internal sealed class InteractionReader(InteractionLog log, IReadOnlyList<string> tasks, CancellationToken cancellation)
{
    private const int RowsBetweenReports = 1 << 16;
    private const int MaxIdBytes = 1024;

    /// <summary>Rows whose event is no task.</summary>
    public long Ignored { get; private set; }

    /// <summary>Rows at or behind the end of the part that counts.</summary>
    public long Later { get; private set; }

    /// <summary>Reads all interactions before a time.</summary>
    /// <param name="before">Interactions count whose time is below this; infinite = all.</param>
    /// <param name="visit">Takes them.</param>
    /// <param name="report">Now and then takes the part that is read.</param>
    public void Read(double before, InteractionVisitor visit, Action<double> report)
    {
        for (int i = 0; i < log.Sources.Count; i++)
        {
            InteractionSource source = log.Sources[i];
            int place = i;
            void Report(double done) => report((place + done) / log.Sources.Count);
            if (source.Kind == InteractionKind.Lists)
                ReadLists(source, visit, Report);
            else
                ReadRows(source, before, visit, Report);
        }
    }

    /// <summary>Reads the times of all rows.</summary>
    public void ReadTimes(Action<double> visit, Action<double> report)
    {
        for (int i = 0; i < log.Sources.Count; i++)
        {
            using DelimitedReader reader = new(log.Sources[i].Path, log.Format);
            int time = reader.IndexOf(log.TimeColumn!, "the time of interactions");
            while (reader.Read())
            {
                visit(reader.Number(time, "times are numbers that grow"));
                if (reader.Rows % RowsBetweenReports == 0)
                {
                    cancellation.ThrowIfCancellationRequested();
                    report((i + ((double)reader.BytesRead / reader.Length)) / log.Sources.Count);
                }
            }
        }
    }

    private void ReadRows(InteractionSource source, double before, InteractionVisitor visit, Action<double> report)
    {
        using DelimitedReader reader = new(source.Path, log.Format);
        int user = reader.IndexOf(log.UserColumn, "the user of interactions");
        int item = reader.IndexOf(log.ItemColumn, "the item of interactions");
        int time = log.TimeColumn is null ? -1 : reader.IndexOf(log.TimeColumn, "the time of interactions");
        int @event = source.Kind == InteractionKind.Events ? reader.IndexOf(log.EventColumn, "the event of interactions") : -1;
        int[] labels = source.Kind == InteractionKind.Labels ? [.. tasks.Select(task => reader.IndexOf(task, $"the task \"{task}\""))] : [];
        byte[][] names = [.. tasks.Select(Encoding.UTF8.GetBytes)];
        int only = source.Task is null ? -1 : tasks.ToList().IndexOf(source.Task);
        while (reader.Read())
        {
            if (reader.Rows % RowsBetweenReports == 0)
            {
                cancellation.ThrowIfCancellationRequested();
                report((double)reader.BytesRead / reader.Length);
            }

            ReadOnlySpan<byte> userText = Id(reader, user, "user");
            ReadOnlySpan<byte> itemText = Id(reader, item, "item");
            if (time >= 0 && reader.Number(time, "times are numbers that grow") >= before)
            {
                Later++;
                continue;
            }

            if (only >= 0)
            {
                visit(userText, itemText, only);
            }
            else if (@event >= 0)
            {
                int task = IndexOf(names, reader.Field(@event));
                if (task < 0)
                    Ignored++;
                else
                    visit(userText, itemText, task);
            }
            else
            {
                for (int task = 0; task < labels.Length; task++)
                {
                    if (!reader.IsMissing(reader.Field(labels[task])) && reader.Number(labels[task], "an interaction is a number above 0") > 0)
                        visit(userText, itemText, task);
                }
            }
        }
    }

    private static int IndexOf(byte[][] names, ReadOnlySpan<byte> text)
    {
        for (int i = 0; i < names.Length; i++)
        {
            if (text.SequenceEqual(names[i]))
                return i;
        }

        return -1;
    }

    private static ReadOnlySpan<byte> Id(DelimitedReader reader, int column, string what)
    {
        ReadOnlySpan<byte> text = reader.Field(column);
        if (reader.IsMissing(text))
            throw reader.Error(column, $"the {what} is missing; every interaction needs one");
        return text.Length <= MaxIdBytes ? text : throw reader.Error(column, $"the {what} has {text.Length} bytes; an id has at most {MaxIdBytes}");
    }

    private void ReadLists(InteractionSource source, InteractionVisitor visit, Action<double> report)
    {
        int task = tasks.ToList().IndexOf(source.Task!);
        using FileStream file = TextFile.Open(source.Path);
        using Stream text = TextFile.Decompress(file, source.Path);
        byte[] block = new byte[1 << 16];
        byte[] user = new byte[MaxIdBytes];
        byte[] word = new byte[MaxIdBytes];
        int userLength = 0;
        int length = 0;
        long line = 1;
        bool first = true;
        while (true)
        {
            int read;
            try
            {
                read = text.Read(block);
            }
            catch (InvalidDataException error)
            {
                throw new DataException($"the gzip data is broken or cut off behind line {line}: {error.Message}", source.Path, 0, null, error);
            }

            cancellation.ThrowIfCancellationRequested();
            report(file.Length == 0 ? 1 : (double)file.Position / file.Length);
            for (int i = 0; i < read; i++)
            {
                byte letter = block[i];
                if (letter is not ((byte)' ' or (byte)'\t' or (byte)'\r' or (byte)'\n'))
                {
                    if (length == MaxIdBytes)
                        throw new DataException($"an id has more than {MaxIdBytes} bytes; lines are \"user item item ...\"", source.Path, line);
                    word[length++] = letter;
                    continue;
                }

                EndWord();
                if (letter == (byte)'\n')
                {
                    line++;
                    first = true;
                }
            }

            if (read == 0)
                break;
        }

        EndWord();

        void EndWord()
        {
            if (length == 0)
                return;
            if (first)
            {
                word.AsSpan(0, length).CopyTo(user);
                userLength = length;
                first = false;
            }
            else
            {
                visit(user.AsSpan(0, userLength), word.AsSpan(0, length), task);
            }

            length = 0;
        }
    }
}
