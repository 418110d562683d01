using System.Runtime.InteropServices;
using CudaMoE.Description;
using CudaMoE.Interop;

namespace CudaMoE.Layers;

/// <summary>One optimiser step over all dense parameters in one native call, with clipping by the global norm.</summary>
internal sealed unsafe class DenseOptimizer
{
    private readonly LayerContext _context;
    private readonly OptimizerDescription _optimizer;
    private readonly float? _clipNorm;
    private readonly HostReadable<double> _norm;
    private readonly UpdateNumbers _numbers;
    private OptimizerTensor* _tensors;
    private OptimizerNormArgs _normArgs;
    private OptimizerStepArgs _step;

    public DenseOptimizer(LayerContext context, OptimizerDescription optimizer, float? clipNorm, UpdateNumbers numbers)
    {
        context.OnDispose(Free);
        _context = context;
        _optimizer = optimizer;
        _clipNorm = clipNorm;
        _numbers = numbers;
        _norm = new(context, "optimizer.norm", 1);
        context.OnBind(Bind);
    }

    /// <summary>Global norm of the dense gradients of the last step, before clipping; NaN when there is no clipping.</summary>
    public double LastNorm => _clipNorm == null ? double.NaN : _norm.Read()[0];

    /// <summary>Where that norm is in device memory; null when there is no clipping. An update that reads it changes nothing when it is not finite.</summary>
    public double* Norm => _clipNorm == null ? null : _norm.Device;

    /// <summary>Applies the gradients with the numbers that were set, unless there is clipping and their norm is not finite.</summary>
    public void Step()
    {
        if (_clipNorm != null)
        {
            _normArgs.Workspace = (void*)_context.Workspace;
            _normArgs.WorkspaceBytes = _context.WorkspaceBytes;
            fixed (OptimizerNormArgs* args = &_normArgs)
                NativeStatus.Check(NativeMethods.OptimizerNorm(_context.Stream.Native, args));
            _norm.Written();
        }

        fixed (OptimizerStepArgs* args = &_step)
            NativeStatus.Check(NativeMethods.OptimizerStep(_context.Stream.Native, args));
    }

    private void Free()
    {
        NativeMemory.Free(_tensors);
        _tensors = null;
    }

    private void Bind()
    {
        IReadOnlyList<ParameterBlock> blocks = _context.Parameters.Blocks;
        _tensors = (OptimizerTensor*)NativeMemory.AllocZeroed((nuint)blocks.Count, (nuint)sizeof(OptimizerTensor));
        for (int i = 0; i < blocks.Count; i++)
        {
            ParameterBlock block = blocks[i];
            _tensors[i] = new()
            {
                Parameter = block.Value,
                Gradient = block.Gradient,
                State1 = block.State1,
                State2 = block.State2,
                Count = block.Count,
                LearningRateScale = 1,
                WeightDecay = block.Kind == ParameterKind.Weight ? _optimizer.WeightDecay : 0,
            };
        }

        _normArgs = new()
        {
            StructSize = (uint)sizeof(OptimizerNormArgs),
            TensorCount = blocks.Count,
            Tensors = _tensors,
            Norm = _norm.Device,
        };
        long bytes;
        fixed (OptimizerNormArgs* args = &_normArgs)
            NativeStatus.Check(NativeMethods.OptimizerNormWorkspace(_context.Stream.Native, args, &bytes));
        _context.NeedWorkspace(bytes);
        _step = new()
        {
            StructSize = (uint)sizeof(OptimizerStepArgs),
            TensorCount = blocks.Count,
            Tensors = _tensors,
            Optimizer = _optimizer.Type switch
            {
                OptimizerType.Sgd => 0,
                OptimizerType.Adagrad => 1,
                OptimizerType.Adamw => 3,
                _ => throw new DescriptionException($"training.optimizer.type is {_optimizer.Type}; it must be sgd, adagrad or adamw"),
            },
            Momentum = _optimizer.Momentum,
            Beta1 = _optimizer.Beta1,
            Beta2 = _optimizer.Beta2,
            Epsilon = _optimizer.Epsilon,
            GradientScale = 1,
            MaxNorm = _clipNorm ?? 0,
            Norm = Norm,
            Numbers = _numbers.Dense,
        };
    }
}
