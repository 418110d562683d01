using CudaMoE.Data;
using CudaMoE.Description;

namespace CudaMoE.Export;

/// <summary>What every part of an export reads and writes.</summary>
/// <param name="Graph">The graph that is made.</param>
/// <param name="Weights">The parameters.</param>
/// <param name="Description">The model.</param>
/// <param name="Encoders">How its inputs and labels were encoded.</param>
/// <param name="Options">What was asked for.</param>
internal sealed record ExportContext(OnnxGraph Graph, ExportWeights Weights, ModelDescription Description, FittedEncoders Encoders, OnnxExportOptions Options)
{
    public ArchitectureDescription Architecture => Description.Architecture;

    public int Tasks => Description.Tasks.Count;
}
