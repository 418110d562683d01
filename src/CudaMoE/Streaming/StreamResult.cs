namespace CudaMoE.Streaming;

/// <summary>Where and how a stream runs.</summary>
public sealed record StreamOptions
{
    /// <summary>The device, see <see cref="Tensors.Device.Open"/>.</summary>
    public string Device { get; init; } = "auto";

    /// <summary>The run's folder; one that holds windows of the same description goes on behind them.</summary>
    public string Folder { get; init; } = "stream";

    /// <summary>The last window to train in this call; null = all.</summary>
    public int? Until { get; init; }
}

/// <summary>Is told what a stream does.</summary>
public interface IStreamObserver
{
    /// <summary>The log is cut, the device is open.</summary>
    /// <param name="stream">The windows.</param>
    /// <param name="done">Windows that the folder holds already.</param>
    void OnStarted(InteractionStream stream, int done);

    /// <summary>A frozen encoder computed states; those that a file keeps are not computed again. Comes before <see cref="OnStarted"/>.</summary>
    /// <param name="modality">The modality.</param>
    /// <param name="done">Items that have their states.</param>
    /// <param name="count">Items that will have them.</param>
    void OnEncoded(string modality, int done, int count)
    {
    }

    /// <summary>An epoch ended.</summary>
    /// <param name="window">The window, from 1.</param>
    /// <param name="epoch">The epoch, from 1.</param>
    /// <param name="loss">Mean loss of its sequences' batches.</param>
    /// <param name="ndcg">NDCG@10 of validation; null where it was not validated.</param>
    void OnEpoch(int window, int epoch, double loss, double? ndcg);

    /// <summary>A window is trained, tested and saved.</summary>
    void OnWindow(StreamWindowResult result);
}

/// <summary>What a window left.</summary>
public sealed record StreamWindowResult
{
    /// <summary>Its number, from 1.</summary>
    public required int Window { get; init; }

    /// <summary>Sequences that trained.</summary>
    public required int TrainSequences { get; init; }

    /// <summary>Epochs run.</summary>
    public required int Epochs { get; init; }

    /// <summary>The epoch whose weights were kept; the last one where none was validated.</summary>
    public required int BestEpoch { get; init; }

    /// <summary>Mean loss of the last epoch; 0 where nothing was trained.</summary>
    public required double Loss { get; init; }

    /// <summary>The kept weights on the window's own last events; null where these hold no sequence.</summary>
    public required RankingMetrics? Validation { get; init; }

    /// <summary>The kept weights on the whole next window; null where it holds no sequence.</summary>
    public required RankingMetrics? Test { get; init; }

    /// <summary>Experts of each mixture by its name, e.g. "text.layers.0".</summary>
    public required IReadOnlyDictionary<string, int> Experts { get; init; }

    /// <summary>Parameters, frozen ones included.</summary>
    public required long Parameters { get; init; }

    /// <summary>Parameters that were trained.</summary>
    public required long TrainedParameters { get; init; }
}

/// <summary>What a stream left.</summary>
public sealed record StreamResult
{
    /// <summary>The run's folder.</summary>
    public required string Folder { get; init; }

    /// <summary>Whether all windows are trained.</summary>
    public required bool Complete { get; init; }

    /// <summary>The windows, oldest first.</summary>
    public required IReadOnlyList<StreamWindowResult> Windows { get; init; }

    /// <summary>Means of the windows' test metrics, over the windows that have some.</summary>
    public required RankingMetrics? Mean { get; init; }

    /// <summary>The last window's weights on every window's own last events; null where these hold no sequence. Empty before the stream is complete.</summary>
    public required IReadOnlyList<RankingMetrics?> Retained { get; init; }

    /// <summary>Mean over the windows but the last of NDCG@10 right after the window less NDCG@10 at the end, on the window's own last events, which no
    /// weights were ever fitted to; null before the end.</summary>
    public required double? Forgetting { get; init; }
}
