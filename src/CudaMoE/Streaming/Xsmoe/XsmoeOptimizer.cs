using System.Runtime.InteropServices;
using CudaMoE.Description;
using CudaMoE.Interop;
using CudaMoE.Layers;

namespace CudaMoE.Streaming.Xsmoe;

/// <summary>Adam over all parameters but the frozen experts, of which neither values nor moments are touched. Its moments begin at zero with the model,
/// so with each window.</summary>
internal sealed unsafe class XsmoeOptimizer
{
    private readonly LayerContext _context;
    private readonly OptimizerDescription _optimizer;
    private readonly Func<IEnumerable<(ParameterBlock Block, long FirstTrained)>> _partlyFrozen;
    private OptimizerTensor* _tensors;
    private int _count;

    public XsmoeOptimizer(LayerContext context, OptimizerDescription optimizer, Func<IEnumerable<(ParameterBlock Block, long FirstTrained)>> partlyFrozen)
    {
        context.OnDispose(Free);
        _context = context;
        _optimizer = optimizer;
        _partlyFrozen = partlyFrozen;
        context.OnBind(Bind);
    }

    /// <summary>One step.</summary>
    /// <param name="learningRate">The learning rate.</param>
    /// <param name="step">Counts from 1 in each window.</param>
    public void Step(float learningRate, long step)
    {
        OptimizerStepArgs args = new()
        {
            StructSize = (uint)sizeof(OptimizerStepArgs),
            TensorCount = _count,
            Tensors = _tensors,
            Optimizer = 3,
            LearningRate = learningRate,
            Beta1 = _optimizer.Beta1,
            Beta2 = _optimizer.Beta2,
            Epsilon = _optimizer.Epsilon,
            GradientScale = 1,
            Step = step,
        };
        NativeStatus.Check(NativeMethods.OptimizerStep(_context.Stream.Native, &args));
    }

    private void Free()
    {
        NativeMemory.Free(_tensors);
        _tensors = null;
    }

    private void Bind()
    {
        Dictionary<long, long> firsts = _partlyFrozen().ToDictionary(entry => entry.Block.Offset, entry => entry.FirstTrained);
        ParameterBlock[] blocks =
        [
            .. _context.Parameters.Blocks
                .Select(block => firsts.TryGetValue(block.Offset, out long first) ? block.Slice(first, block.Count - first) : block)
                .Where(block => block.Count > 0),
        ];
        _count = blocks.Length;
        _tensors = (OptimizerTensor*)NativeMemory.AllocZeroed((nuint)_count, (nuint)sizeof(OptimizerTensor));
        for (int i = 0; i < _count; i++)
        {
            _tensors[i] = new()
            {
                Parameter = blocks[i].Value,
                Gradient = blocks[i].Gradient,
                State1 = blocks[i].State1,
                State2 = blocks[i].State2,
                Count = blocks[i].Count,
                LearningRateScale = 1,
                WeightDecay = blocks[i].Kind == ParameterKind.Weight ? _optimizer.WeightDecay : 0,
            };
        }
    }
}
