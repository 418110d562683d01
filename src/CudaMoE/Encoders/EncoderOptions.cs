using CudaMoE.Description;

namespace CudaMoE.Encoders;

/// <summary>What of an encoder is wanted, and how it is computed.</summary>
public sealed record EncoderOptions
{
    /// <summary>The layers whose states are wanted, ascending: 0 is the embedding output, the last is what the last block leaves. Null = all.</summary>
    public IReadOnlyList<int>? Layers { get; init; }

    /// <summary>
    /// The encoder's output alone, one state: what the last block leaves, in a ViT behind the final normalisation. <see cref="Layers"/> must then be null.
    /// </summary>
    public bool OutputOnly { get; init; }

    /// <summary>How the tokens of a text or picture become one state; null = as the folder's <c>1_Pooling/config.json</c> says, else the first token's.</summary>
    public TokenPooling? Pooling { get; init; }

    /// <summary>Whether every state is scaled to length 1. A state of zeros stays.</summary>
    public bool Normalize { get; init; }

    /// <summary>Tokens of a text at most; null = as the folder says. What is behind them is left out.</summary>
    public int? MaxTokens { get; init; }

    /// <summary>Tokens of a batch, padding included, at most; one text or picture always fits.</summary>
    public int BatchTokens { get; init; } = 1024;

    /// <summary>Operands of the products; sums are f32.</summary>
    public Precision Precision { get; init; } = Precision.F32;

    /// <summary>The layers that are wanted, as numbers.</summary>
    /// <exception cref="CudaMoEException">They do not ascend, or the encoder has fewer.</exception>
    internal IReadOnlyList<int> LayersOf(EncoderConfig config)
    {
        if (OutputOnly)
            return Layers is null ? [config.Blocks] : throw new CudaMoEException("layers are given with the output alone; give one of the two");
        if (Layers is null)
            return [.. Enumerable.Range(0, config.Layers)];
        if (Layers.Count == 0)
            throw new CudaMoEException("no layer is wanted; give at least one, or null for all");
        for (int i = 0; i < Layers.Count; i++)
        {
            if (Layers[i] < 0 || Layers[i] >= config.Layers)
                throw new CudaMoEException($"layer {Layers[i]} is wanted; the encoder has the states 0 to {config.Blocks}");
            if (i > 0 && Layers[i] <= Layers[i - 1])
                throw new CudaMoEException($"layer {Layers[i]} is wanted behind {Layers[i - 1]}; they must ascend");
        }

        return Layers;
    }
}
