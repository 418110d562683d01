using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using CudaMoE.Checkpoints;
using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Encoders;
using CudaMoE.Tensors;

namespace CudaMoE.Streaming;

/// <summary>
/// The states that a modality's encoder computed, kept in a file. The file says what it was made from; when encoder, texts or options are others, it is
/// made anew.
/// </summary>
internal sealed class StateCache
{
    private const string KeyName = "made_from";
    private static readonly string[] EncoderFiles = ["config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json", "sentence_bert_config.json"];
    private readonly ModalityDescription _modality;
    private readonly string _place;
    private readonly string _path;
    private readonly Device _device;
    private readonly Action<int, int>? _progress;
    private readonly CancellationToken _cancellation;

    /// <param name="modality">The modality.</param>
    /// <param name="place">Its place in the description, for messages.</param>
    /// <param name="folder">Where the file lies when the modality names none.</param>
    /// <param name="device">Where the encoder computes.</param>
    /// <param name="progress">Told how many items are done, and how many there are; may be null.</param>
    /// <param name="cancellation">Ends it.</param>
    public StateCache(ModalityDescription modality, string place, string folder, Device device, Action<int, int>? progress, CancellationToken cancellation)
    {
        _modality = modality;
        _place = place;
        _path = modality.File ?? Path.Combine(folder, $"{modality.Name}.safetensors");
        _device = device;
        _progress = progress;
        _cancellation = cancellation;
    }

    /// <summary>The states of the items that have the modality.</summary>
    /// <param name="items">The items of the stream.</param>
    /// <param name="table">The item table; null for pictures.</param>
    /// <exception cref="CudaMoEException">Encoder, table or pictures are wrong, no item has the modality, or the file is something else.</exception>
    public StateFile Open(IReadOnlySet<string> items, ItemTableDescription? table)
    {
        if (_modality.Pixels is not null)
            return OpenPictures(items);
        List<KeyValuePair<string, string>> texts = [.. StateEncoding.ReadTexts(table!.File, table.Format, table.ItemColumn, _modality.Columns).Where(text => items.Contains(text.Key))];
        if (texts.Count == 0)
            throw new DescriptionException($"{_place}.columns", $"hold no text of any item of the log; see items.item_column, {table.ItemColumn}");
        string key = Key(hash =>
        {
            foreach ((string item, string text) in texts)
            {
                Add(hash, item);
                Add(hash, text);
            }
        });
        return Kept(key) ?? Make(() =>
        {
            using TextEncoder encoder = TextEncoder.Open(_modality.Encoder!, _device, new() { Pooling = _modality.Pooling, MaxTokens = _modality.MaxTokens });
            StateEncoding.Write(_path, texts, encoder, StateType.F16, done => _progress?.Invoke(done, texts.Count), Notes(key), _cancellation);
        });
    }

    private static void Add(IncrementalHash hash, string text)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(text);
        hash.AppendData(BitConverter.GetBytes((long)bytes.Length));
        hash.AppendData(bytes);
    }

    private static Dictionary<string, string> Notes(string key) => new() { [KeyName] = key };

    private StateFile OpenPictures(IReadOnlySet<string> items)
    {
        using PixelFile pictures = PixelFile.Open(_modality.Pixels!);
        string[] shown = [.. pictures.Items.Where(items.Contains)];
        if (shown.Length == 0)
            throw new DescriptionException($"{_place}.pixels", "hold no picture of any item of the log");
        string key = Key(hash =>
        {
            Add(hash, FileDigest.Of(_modality.Pixels!).Sha256);
            foreach (string item in shown)
                Add(hash, item);
        });
        return Kept(key) ?? Make(() =>
        {
            using ImageEncoder encoder = ImageEncoder.Open(_modality.Encoder!, _device, new() { Pooling = _modality.Pooling });
            StateEncoding.Write(_path, pictures, shown, encoder, StateType.F16, done => _progress?.Invoke(done, shown.Length), Notes(key), _cancellation);
        });
    }

    /// <summary>A hash of all that the states follow from.</summary>
    private string Key(Action<IncrementalHash> addItems)
    {
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (string name in EncoderFiles)
        {
            string file = Path.Combine(_modality.Encoder!, name);
            Add(hash, name);
            Add(hash, File.Exists(file) ? FileDigest.Of(file).Sha256 : "");
        }

        Add(hash, _modality.Pooling.ToString());
        Add(hash, _modality.MaxTokens?.ToString(CultureInfo.InvariantCulture) ?? "");
        addItems(hash);
        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    /// <summary>The file, if it is there and was made from the same; null when it must be made.</summary>
    private StateFile? Kept(string key)
    {
        if (!File.Exists(_path))
            return null;
        StateFile file = StateFile.Open(_path);
        if (file.Metadata.TryGetValue(KeyName, out string? from) && from == key)
            return file;
        file.Dispose();
        return from is null
            ? throw new DescriptionException($"{_place}.file", $"names {_path}, which no encoder of a stream wrote; it would be overwritten: name another file, or take the source file")
            : null;
    }

    private StateFile Make(Action write)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(Path.GetFullPath(_path))!);
        write();
        return StateFile.Open(_path);
    }
}
