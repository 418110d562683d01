namespace CudaMoE.Models;

/// <summary>The numbers of a training step that differ from those of the step before it.</summary>
/// <param name="Dense">Learning rate of the dense parameters.</param>
/// <param name="Embedding">Learning rate of the tables.</param>
/// <param name="Step">Counts from 1.</param>
internal readonly record struct StepRates(float Dense, float Embedding, long Step);
