using CudaMoE.Layers;

namespace CudaMoE.Models;

/// <summary>All that the host's calls of a training step depend on.</summary>
/// <param name="Rows">Of the batch.</param>
/// <param name="Features">Where its features begin, in device memory.</param>
/// <param name="Rooms">Number of the rooms of its features (<see cref="DeviceBatch.RoomsNumber"/>).</param>
/// <param name="Labels">Where its labels begin.</param>
/// <param name="Workspace">Work space of the update of tables; 0 in parts without it, as what follows.</param>
/// <param name="Weighted">Whether the tasks have weights.</param>
/// <param name="GramIsFresh">Whether a Gram matrix was formed of this batch.</param>
internal readonly record struct StepKey(int Rows, nint Features, int Rooms, nint Labels, nint Workspace, bool Weighted, bool GramIsFresh);
