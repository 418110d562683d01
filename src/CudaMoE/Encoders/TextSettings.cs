using System.Globalization;
using CudaMoE.Checkpoints;
using CudaMoE.Description;

namespace CudaMoE.Encoders;

/// <summary>What the files beside <c>config.json</c> say of how a text encoder is meant to be used.</summary>
internal sealed record TextSettings
{
    /// <summary>Of the tokenizer.</summary>
    public required WordPieceOptions Tokenizer { get; init; }

    /// <summary>Tokens of a text at most.</summary>
    public required int MaxTokens { get; init; }

    /// <summary>The pooling of a sentence encoder's folder; null when it names none.</summary>
    public TokenPooling? Pooling { get; init; }

    /// <summary>Reads <c>tokenizer_config.json</c>, and what sentence-transformers adds; each file may be missing.</summary>
    public static TextSettings Read(string folder, EncoderConfig config)
    {
        string path = Path.Combine(folder, "tokenizer_config.json");
        EncoderJson? json = EncoderJson.Open(path);
        json?.Require(
            "tokenizer_class", "BertTokenizer", "BertTokenizerFast", "DistilBertTokenizer", "DistilBertTokenizerFast", "ElectraTokenizer", "ElectraTokenizerFast");
        json?.Require("do_basic_tokenize", "true");
        WordPieceOptions defaults = new();
        WordPieceOptions options = defaults with
        {
            LowerCase = json?.Flag("do_lower_case") ?? defaults.LowerCase,
            StripAccents = json?.Flag("strip_accents"),
            SplitCjk = json?.Flag("tokenize_chinese_chars") ?? defaults.SplitCjk,
            Unknown = json?.Token("unk_token") ?? defaults.Unknown,
            Start = json?.Token("cls_token") ?? defaults.Start,
            Separator = json?.Token("sep_token") ?? defaults.Separator,
            Padding = json?.Token("pad_token") ?? defaults.Padding,
            Mask = json?.Token("mask_token") ?? defaults.Mask,
        };
        EncoderJson? sentence = EncoderJson.Open(Path.Combine(folder, "sentence_bert_config.json"));
        double longest = sentence?.Number("max_seq_length") ?? json?.Number("model_max_length") ?? config.MaxTokens;
        if (longest < 2)
            throw new CheckpointFormatException(sentence is null ? path : Path.Combine(folder, "sentence_bert_config.json"), string.Create(CultureInfo.InvariantCulture, $"the most tokens of a text are {longest}; they must be at least 2"));
        return new()
        {
            Tokenizer = options,
            MaxTokens = (int)Math.Min(longest, config.MaxTokens),
            Pooling = ReadPooling(folder),
        };
    }

    private static TokenPooling? ReadPooling(string folder)
    {
        string path = Path.Combine(folder, "1_Pooling", "config.json");
        if (EncoderJson.Open(path) is not { } json)
            return null;
        foreach (string other in (string[])["pooling_mode_max_tokens", "pooling_mode_mean_sqrt_len_tokens", "pooling_mode_weightedmean_tokens", "pooling_mode_lasttoken"])
            json.Require(other, "false");
        bool cls = json.Flag("pooling_mode_cls_token") ?? false;
        bool mean = json.Flag("pooling_mode_mean_tokens") ?? false;
        if (cls == mean)
            throw new CheckpointFormatException(path, $"pooling_mode_cls_token and pooling_mode_mean_tokens are both {(cls ? "true" : "false")}; one of them is supported at a time");
        return cls ? TokenPooling.Cls : TokenPooling.Mean;
    }
}
