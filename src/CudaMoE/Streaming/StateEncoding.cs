using System.Globalization;
using System.Text;
using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Encoders;

namespace CudaMoE.Streaming;

/// <summary>Runs a frozen encoder over items and writes a <see cref="StateFile"/>. A kill leaves the old file or the whole new one.</summary>
public static class StateEncoding
{
    /// <summary>Reads the texts of items from a table: the columns of a row joined by blanks. Later rows of an item, and rows whose columns are all missing or blank, are left out.</summary>
    /// <param name="file">The table, plain or gzip.</param>
    /// <param name="format">How it is written.</param>
    /// <param name="itemColumn">The column of the item's name.</param>
    /// <param name="columns">The columns of the texts.</param>
    /// <returns>Names and texts in the order of the file.</returns>
    /// <exception cref="DataException">The file cannot be read, or lacks a column.</exception>
    public static IReadOnlyList<KeyValuePair<string, string>> ReadTexts(string file, FileFormat format, string itemColumn, IReadOnlyList<string> columns)
    {
        using DelimitedReader reader = new(file, format);
        int item = reader.IndexOf(itemColumn, "the item's name");
        int[] places = [.. columns.Select(column => reader.IndexOf(column, "the text"))];
        List<KeyValuePair<string, string>> texts = [];
        HashSet<string> known = new(StringComparer.Ordinal);
        StringBuilder text = new();
        while (reader.Read())
        {
            if (JoinedText.Read(reader, places, text) is not { } joined)
                continue;
            string name = Encoding.UTF8.GetString(reader.Field(item));
            if (known.Add(name))
                texts.Add(new(name, joined));
        }

        return texts;
    }

    /// <summary>Writes the states of texts.</summary>
    /// <param name="path">The file of states.</param>
    /// <param name="texts">Names and texts, each name once.</param>
    /// <param name="encoder">The encoder; its layers are the file's.</param>
    /// <param name="type">Element type of the file.</param>
    /// <param name="progress">Told how many items are written; may be null.</param>
    /// <param name="metadata">Notes to keep beside layers and pooling; may be null.</param>
    /// <param name="cancellation">Ends it; the old file stays.</param>
    /// <exception cref="ArgumentException">There is no text, or an item is named twice.</exception>
    /// <exception cref="IOException">The file cannot be written.</exception>
    public static void Write(
        string path,
        IReadOnlyList<KeyValuePair<string, string>> texts,
        TextEncoder encoder,
        StateType type = StateType.F16,
        Action<int>? progress = null,
        IReadOnlyDictionary<string, string>? metadata = null,
        CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(encoder);
        EncodedTextStates states = new(texts, encoder, cancellation);
        StateFile.Write(path, [.. texts.Select(text => text.Key)], states, type, progress, Notes(encoder.LayerNumbers, encoder.Pooling, metadata));
    }

    /// <summary>Writes the states of pictures.</summary>
    /// <param name="path">The file of states.</param>
    /// <param name="pictures">The pictures.</param>
    /// <param name="items">The items that are wanted; null = all. Those without a picture are left out.</param>
    /// <param name="encoder">The encoder; its layers are the file's.</param>
    /// <param name="type">Element type of the file.</param>
    /// <param name="progress">Told how many items are written; may be null.</param>
    /// <param name="metadata">Notes to keep beside layers and pooling; may be null.</param>
    /// <param name="cancellation">Ends it; the old file stays.</param>
    /// <exception cref="Checkpoints.CheckpointFormatException">The pictures have another size than the encoder reads.</exception>
    /// <exception cref="ArgumentException">No wanted item has a picture.</exception>
    /// <exception cref="IOException">The file cannot be written.</exception>
    public static void Write(
        string path,
        PixelFile pictures,
        IReadOnlyCollection<string>? items,
        ImageEncoder encoder,
        StateType type = StateType.F16,
        Action<int>? progress = null,
        IReadOnlyDictionary<string, string>? metadata = null,
        CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(pictures);
        ArgumentNullException.ThrowIfNull(encoder);
        HashSet<string>? wanted = items is null ? null : new(items, StringComparer.Ordinal);
        int[] places = [.. Enumerable.Range(0, pictures.Items.Count).Where(i => wanted is null || wanted.Contains(pictures.Items[i]))];
        EncodedImageStates states = new(pictures, places, encoder, cancellation);
        StateFile.Write(path, [.. places.Select(i => pictures.Items[i])], states, type, progress, Notes(encoder.LayerNumbers, encoder.Pooling, metadata));
    }

    private static Dictionary<string, string> Notes(IReadOnlyList<int> layers, TokenPooling pooling, IReadOnlyDictionary<string, string>? more)
    {
        Dictionary<string, string> notes = new()
        {
            ["layers"] = string.Join(',', layers.Select(layer => layer.ToString(CultureInfo.InvariantCulture))),
            ["pooling"] = pooling.ToString().ToLowerInvariant(),
        };
        foreach ((string key, string value) in more ?? new Dictionary<string, string>())
            notes.Add(key, value);
        return notes;
    }
}
