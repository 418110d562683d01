using System.Text.Json.Serialization;

namespace OnnxRuntimePeer;

/// <summary>One line of results, with the names of <see cref="CudaMoE.Benchmarking.ModelBenchmarkResult"/>.</summary>
internal sealed record PeerResult
{
    public required string Engine { get; init; }

    public required string Name { get; init; }

    public string Mode { get; } = "inference";

    public required int Batch { get; init; }

    public required int Threads { get; init; }

    public string Precision { get; } = "f32";

    public required int Runs { get; init; }

    public required double MinimumMicroseconds { get; init; }

    public required double MedianMicroseconds { get; init; }

    public required double P99Microseconds { get; init; }

    public required double SamplesPerSecond { get; init; }

    public required double Gflops { get; init; }

    /// <summary>Largest distance of the two engines' logits on the timed inputs.</summary>
    public required double LargestDifference { get; init; }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(PeerResult))]
internal sealed partial class PeerJson : JsonSerializerContext;
