using System.Globalization;
using CudaMoE.Cli.Rendering;
using CudaMoE.Description;

namespace CudaMoE.Cli.Encoders;

/// <summary>What <c>cudamoe encode</c> answers.</summary>
internal sealed record EncodeAnswer
{
    /// <summary>The file that was written.</summary>
    public string File { get; init; } = "";

    /// <summary>Items of a file of states, or rows of a table.</summary>
    public required long Items { get; init; }

    /// <summary>Rows without a text.</summary>
    public long Missing { get; init; }

    /// <summary>The layers whose states are there.</summary>
    public required IReadOnlyList<int> Layers { get; init; }

    /// <summary>Numbers of a state.</summary>
    public required int Width { get; init; }

    /// <summary>How tokens became one state.</summary>
    public required TokenPooling Pooling { get; init; }

    /// <summary>Tokens that went through the encoder, padding not counted; 0 for pictures.</summary>
    public long Tokens { get; init; }

    /// <summary>Texts that were cut.</summary>
    public long Truncated { get; init; }

    /// <summary>Reading, encoding and writing; opening the encoder is not counted, but for pictures.</summary>
    public double Seconds { get; init; }

    /// <summary>For people.</summary>
    public string Text()
    {
        string layers = Layers.Count == 1 ? $"layer {Layers[0]}" : $"layers {string.Join(',', Layers.Select(layer => layer.ToString(CultureInfo.InvariantCulture)))}";
        string missing = Missing > 0 ? $", {Texts.Count(Missing)} without text" : "";
        string tokens = Tokens > 0 ? $", {Texts.Count(Tokens)} tokens{(Truncated > 0 ? $", {Texts.Count(Truncated)} texts cut" : "")}" : "";
        return $"{File}: {Texts.Count(Items)} x {Width} numbers of {layers}, pooling {Pooling.ToString().ToLowerInvariant()}{missing}{tokens}, {Texts.Duration(TimeSpan.FromSeconds(Seconds))}\n";
    }
}
