namespace CudaMoE.Layers;

/// <summary>What the cache of a table in host memory did since the model was made. The rows of a batch count once, however often they are looked up.</summary>
/// <param name="Table">The table; of a model with units <c>unit.table</c>.</param>
/// <param name="Rows">Rows that it holds.</param>
/// <param name="Batches">Batches that were looked up.</param>
/// <param name="Hits">Rows of batches that were there.</param>
/// <param name="Misses">Rows that were brought in.</param>
/// <param name="Bypasses">Rows that found no place and were used in host memory.</param>
/// <param name="Evictions">Rows that had to leave.</param>
/// <param name="BytesIn">Bytes copied from host memory, optimiser states included.</param>
/// <param name="BytesOut">Bytes copied back.</param>
/// <remarks>On a cpu, which has no nearer memory, all but <paramref name="Rows"/> stay 0.</remarks>
public sealed record TableCacheCounts(string Table, long Rows, long Batches, long Hits, long Misses, long Bypasses, long Evictions, long BytesIn, long BytesOut);
