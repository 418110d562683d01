using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using CudaMoE.Cli.Encoders;
using CudaMoE.Cli.Rendering;
using CudaMoE.Description;
using CudaMoE.Encoders;
using CudaMoE.Streaming;
using CudaMoE.Tensors;

namespace CudaMoE.Cli.Commands;

/// <summary>Runs a frozen encoder over texts or pictures.</summary>
internal sealed class EncodeCommand : CliCommand
{
    private readonly Argument<string?> _table = new("TABLE") { Description = "A delimited file with texts, plain or gzip", Arity = ArgumentArity.ZeroOrOne };

    private readonly Option<string> _encoder = new("--encoder") { HelpName = "FOLDER", Description = "The encoder's folder: config.json, model.safetensors and, for texts, vocab.txt", Required = true };

    private readonly Option<string> _to = new("--to")
    {
        HelpName = "FILE",
        Description = "What is written: NAME.safetensors is a file of states, any other name a copy of the table with a column of vectors",
        Required = true,
    };

    private readonly Option<string[]> _text = new("--text") { HelpName = "COLUMN", Description = "A column with text; several, as often as needed, are joined by blanks" };

    private readonly Option<string> _item = new("--item") { HelpName = "COLUMN", Description = "States: the column of the item's name", DefaultValueFactory = _ => "item_id" };

    private readonly Option<string?> _pixels = new("--pixels") { HelpName = "FILE", Description = "States of pictures instead of texts: a safetensors file with pixel_values, names and name_ends" };

    private readonly Option<string?> _layers = new("--layers")
    {
        HelpName = "LAYERS",
        Description = "all; last, the encoder's output; or numbers such as 0,6,12, where 0 is the embedding output. Default: all for states, last for vectors",
    };

    private readonly Option<TokenPooling?> _pooling = new("--pooling") { HelpName = "KIND", Description = "cls, the first token, or mean, of all tokens. Default: as the folder says, else cls" };

    private readonly Option<bool> _normalize = new("--normalize") { Description = "Scale each state to length 1" };

    private readonly Option<int?> _maxTokens = new("--max-tokens") { HelpName = "N", Description = "Tokens of a text at most. Default: as the folder says" };

    private readonly Option<StateType?> _type = new("--type") { HelpName = "TYPE", Description = "States: type of the numbers, f16, f32 or bf16. Default: f16" };

    private readonly Option<Precision> _precision = new("--precision") { HelpName = "TYPE", Description = "Operands of the products: f32 or bf16. Default: f32" };

    private readonly Option<int> _batch = new("--batch-tokens") { HelpName = "N", Description = "Tokens of a batch at most", DefaultValueFactory = _ => new EncoderOptions().BatchTokens };

    private readonly Option<string> _column = new("--column") { HelpName = "NAME", Description = "Vectors: name of the new column", DefaultValueFactory = _ => "text_vector" };

    private readonly Option<string> _separator = new("--separator") { HelpName = "CHARACTER", Description = "Between the fields of the table; tab is a tab", DefaultValueFactory = _ => "," };

    private readonly Option<string> _valueSeparator = new("--value-separator") { HelpName = "CHARACTER", Description = "Vectors: between the numbers of a vector", DefaultValueFactory = _ => "|" };

    private readonly Option<string> _device = DeviceOption();

    public EncodeCommand()
        : base(
            "encode",
            "Run a frozen BERT or ViT encoder over texts or pictures, and write the states that a stream's modality reads, or a table with a vector feature.",
            "cudamoe encode items.csv --encoder all-MiniLM-L6-v2 --text title --text genres --to text.safetensors",
            "cudamoe encode train.csv --encoder all-MiniLM-L6-v2 --text title --to train-vectors.csv --column title_vector",
            "cudamoe encode --pixels pixels.safetensors --encoder vit-base-patch16-224 --layers 0,6,12 --to images.safetensors")
    {
        Add(_table);
        foreach (Option option in new Option[]
        {
            _encoder, _to, _text, _item, _pixels, _layers, _pooling, _normalize, _maxTokens, _type, _precision, _batch, _column, _separator, _valueSeparator, _device,
        })
        {
            Add(option);
        }
    }

    public override int Run(ParseResult arguments, CliContext context, CancellationToken cancellation)
    {
        string? table = arguments.GetValue(_table);
        string? pixels = arguments.GetValue(_pixels);
        string to = Path.GetFullPath(arguments.GetRequiredValue(_to));
        bool states = to.EndsWith(".safetensors", StringComparison.OrdinalIgnoreCase);
        string[] text = arguments.GetValue(_text) ?? [];
        if (table is null == pixels is null)
            throw new UsageException(table is null ? "there is nothing to encode" : $"{table} and --pixels are both given", "give a table with texts, or --pixels with a file of pictures");
        if (table is not null && text.Length == 0)
            throw new UsageException("--text is missing", "--text COLUMN names a column with text, as often as needed");
        if (pixels is not null && !states)
            throw new UsageException($"--to is {arguments.GetRequiredValue(_to)}; the states of pictures go to a .safetensors file");
        if (table is not null && !File.Exists(table))
            throw new UsageException($"there is no file {table}");
        if (pixels is not null && !File.Exists(pixels))
            throw new UsageException($"there is no file {pixels}");
        if (!Directory.Exists(Path.GetDirectoryName(to)))
            throw new UsageException($"there is no folder {Path.GetDirectoryName(to)} for --to");
        EncoderOptions options = OptionsOf(arguments, states);
        string folder = Path.GetFullPath(arguments.GetRequiredValue(_encoder));
        Stopwatch watch = Stopwatch.StartNew();
        using Device device = Device.Open(arguments.GetRequiredValue(_device));
        EncodeAnswer answer;
        if (pixels is not null)
        {
            answer = Pictures(pixels, to, folder, device, options, arguments.GetValue(_type) ?? StateType.F16, context, cancellation);
        }
        else
        {
            using TextEncoder encoder = TextEncoder.Open(folder, device, options);
            watch.Restart();
            string separator = arguments.GetRequiredValue(_separator);
            FileFormat format = new() { Separator = separator == "tab" ? "\t" : separator };
            answer = states
                ? TextStates(table!, to, format, encoder, arguments, context, cancellation)
                : Vectors(table!, to, format, encoder, arguments, context, cancellation);
            answer = answer with { Tokens = encoder.Tokens, Truncated = encoder.Truncated };
        }

        answer = answer with { File = to, Seconds = watch.Elapsed.TotalSeconds };
        if (context.Format == OutputFormat.Json)
            context.WriteJson(answer, CliJson.Default.EncodeAnswer);
        else
            context.WriteRaw(answer.Text());
        return ExitCodes.Ok;
    }

    private static EncodeAnswer Pictures(string pixels, string to, string folder, Device device, EncoderOptions options, StateType type, CliContext context, CancellationToken cancellation)
    {
        using ImageEncoder encoder = ImageEncoder.Open(folder, device, options);
        using PixelFile pictures = PixelFile.Open(pixels);
        new EncodeProgress(context, pictures.Items.Count, "pictures").Show(progress => StateEncoding.Write(to, pictures, null, encoder, type, done => progress(done), null, cancellation));
        return new() { Items = pictures.Items.Count, Layers = encoder.LayerNumbers, Width = encoder.Width, Pooling = encoder.Pooling };
    }

    private static string[] Numbers(string layers) => layers.Split(',', StringSplitOptions.TrimEntries);

    private EncodeAnswer TextStates(string table, string to, FileFormat format, TextEncoder encoder, ParseResult arguments, CliContext context, CancellationToken cancellation)
    {
        IReadOnlyList<KeyValuePair<string, string>> texts = StateEncoding.ReadTexts(table, format, arguments.GetRequiredValue(_item), arguments.GetValue(_text)!);
        if (texts.Count == 0)
            throw new Data.DataException("no row has a text in the columns of --text", table);
        new EncodeProgress(context, texts.Count, "items").Show(progress => StateEncoding.Write(to, texts, encoder, arguments.GetValue(_type) ?? StateType.F16, done => progress(done), null, cancellation));
        return new() { Items = texts.Count, Layers = encoder.LayerNumbers, Width = encoder.Width, Pooling = encoder.Pooling };
    }

    private EncodeAnswer Vectors(string table, string to, FileFormat format, TextEncoder encoder, ParseResult arguments, CliContext context, CancellationToken cancellation)
    {
        string separator = arguments.GetRequiredValue(_valueSeparator);
        if (separator.Length != 1)
            throw new UsageException($"--value-separator is \"{separator}\"; it must be one character");
        VectorColumnResult result = null!;
        new EncodeProgress(context, null, "rows").Show(progress =>
            result = VectorColumn.Append(table, format, arguments.GetValue(_text)!, encoder, to, arguments.GetRequiredValue(_column), separator[0], progress, cancellation));
        return new() { Items = result.Rows, Missing = result.Missing, Layers = encoder.LayerNumbers, Width = encoder.Width, Pooling = encoder.Pooling };
    }

    private EncoderOptions OptionsOf(ParseResult arguments, bool states)
    {
        string layers = arguments.GetValue(_layers) ?? (states ? "all" : "last");
        IReadOnlyList<int>? numbers = null;
        if (layers is not ("all" or "last"))
        {
            numbers = [.. Numbers(layers).Select(number => int.TryParse(number, NumberStyles.None, CultureInfo.InvariantCulture, out int value)
                ? value
                : throw new UsageException($"--layers is {layers}; it must be all, last, or numbers with commas between, such as 0,6,12"))];
        }

        return new()
        {
            Layers = numbers,
            OutputOnly = layers == "last",
            Pooling = arguments.GetValue(_pooling),
            Normalize = arguments.GetValue(_normalize),
            MaxTokens = arguments.GetValue(_maxTokens),
            Precision = arguments.GetValue(_precision),
            BatchTokens = arguments.GetValue(_batch),
        };
    }
}
