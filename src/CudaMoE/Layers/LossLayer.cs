using System.Runtime.InteropServices;
using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Interop;

namespace CudaMoE.Layers;

/// <summary>The losses of all tasks and their gradients on the logits.</summary>
internal sealed unsafe class LossLayer : IDisposable
{
    private readonly LayerContext _context;
    private readonly IReadOnlyList<TaskDescription> _tasks;
    private readonly IReadOnlyList<int> _classes;
    private readonly IReadOnlyList<Slot> _logits;
    private readonly IReadOnlyList<Slot> _gradients;
    private readonly IReadOnlyList<double> _scales;
    private nint _losses;
    private nint _weightSums;
    private LossTask* _native;
    private LossArgs _args;

    /// <param name="context">The context.</param>
    /// <param name="tasks">The tasks.</param>
    /// <param name="classes">Logits of each task.</param>
    /// <param name="logits">[rows, classes] for each task.</param>
    /// <param name="gradients">The same for the gradients; empty when there is no training.</param>
    /// <param name="scales">Factor of each task's gradient.</param>
    public LossLayer(LayerContext context, IReadOnlyList<TaskDescription> tasks, IReadOnlyList<int> classes, IReadOnlyList<Slot> logits, IReadOnlyList<Slot> gradients, IReadOnlyList<double> scales)
    {
        _context = context;
        _tasks = tasks;
        _classes = classes;
        _logits = logits;
        _gradients = gradients;
        _scales = scales;
        context.Activations.Reserve("losses", tasks.Count * (long)sizeof(double), p => _losses = p);
        context.Activations.Reserve("loss.weights", tasks.Count * (long)sizeof(double), p => _weightSums = p);
        _native = (LossTask*)NativeMemory.AllocZeroed((nuint)tasks.Count, (nuint)sizeof(LossTask));
        context.OnBind(Bind);
    }

    /// <summary>Mean loss of each task over its valid rows of the last batch; 0 when it has none.</summary>
    public ReadOnlySpan<double> Losses => new((void*)_losses, _tasks.Count);

    /// <summary>Sum of the weights of each task's valid rows of the last batch.</summary>
    public ReadOnlySpan<double> WeightSums => new((void*)_weightSums, _tasks.Count);

    public void Run(Batch batch)
    {
        for (int t = 0; t < _tasks.Count; t++)
        {
            _native[t].Labels = batch.LabelsPointer(t);
            _native[t].Weights = batch.WeightsPointer(t);
        }

        _args.Rows = batch.Rows;
        _args.Workspace = (void*)_context.Workspace;
        _args.WorkspaceBytes = _context.WorkspaceBytes;
        fixed (LossArgs* args = &_args)
            NativeStatus.Check(NativeMethods.Loss(_context.Stream.Native, args));
    }

    public void Dispose()
    {
        NativeMemory.Free(_native);
        _native = null;
    }

    private void Bind()
    {
        for (int t = 0; t < _tasks.Count; t++)
        {
            _native[t] = new()
            {
                Logits = _logits[t].Data,
                LogitsRowStride = _logits[t].RowStride,
                LabelsStride = 1,
                WeightsStride = 1,
                Dlogits = _gradients.Count == 0 ? null : _gradients[t].Data,
                DlogitsRowStride = _gradients.Count == 0 ? 0 : _gradients[t].RowStride,
                Kind = _tasks[t].Type switch
                {
                    TaskType.Binary => NativeConstants.LossBinary,
                    TaskType.Regression => NativeConstants.LossSquared,
                    _ => NativeConstants.LossSoftmax,
                },
                Classes = _classes[t],
                Scale = (float)_scales[t],
            };
        }

        _args = new()
        {
            StructSize = (uint)sizeof(LossArgs),
            TaskCount = _tasks.Count,
            Rows = _context.MaxRows,
            Tasks = _native,
            Losses = (double*)_losses,
            WeightSums = (double*)_weightSums,
        };
        long bytes;
        fixed (LossArgs* args = &_args)
            NativeStatus.Check(NativeMethods.LossWorkspace(_context.Stream.Native, args, &bytes));
        _context.NeedWorkspace(bytes);
    }
}
