namespace CudaMoE.Data;

/// <summary>What the building of a cache is at.</summary>
/// <param name="Stage">The pass over the files.</param>
/// <param name="File">The file being read.</param>
/// <param name="BytesRead">Bytes of it (compressed, if it is) read so far.</param>
/// <param name="Length">Its bytes.</param>
/// <param name="Rows">Rows of the pass so far.</param>
public readonly record struct DatasetProgress(DatasetStage Stage, string File, long BytesRead, long Length, long Rows);

/// <summary>Passes over the files.</summary>
public enum DatasetStage
{
    /// <summary>Counting the rows that validation rows are taken from.</summary>
    Counting,

    /// <summary>Fitting the encoders on the training rows.</summary>
    Fitting,

    /// <summary>Encoding all rows into the cache.</summary>
    Encoding,
}
