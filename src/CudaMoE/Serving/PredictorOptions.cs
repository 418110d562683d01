namespace CudaMoE.Serving;

/// <summary>How a <see cref="Predictor"/> works.</summary>
public sealed record PredictorOptions
{
    /// <summary>The device, see <see cref="Tensors.Device.Open(string)"/>. A service gives the model a part of the processors by <c>cpu:threads=N</c>.</summary>
    public string Device { get; init; } = "auto";

    /// <summary>Most rows of one pass through the model; rows that wait together run together. At least 1.</summary>
    public int MaxBatch { get; init; } = 256;

    /// <summary>Most rows that wait; beyond it callers wait until there is room. At least 1.</summary>
    public int MaxQueuedRows { get; init; } = 65536;
}
