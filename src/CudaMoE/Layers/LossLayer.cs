using System.Runtime.InteropServices;
using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Interop;

namespace CudaMoE.Layers;

/// <summary>The losses of all tasks and their gradients on the logits.</summary>
internal sealed unsafe class LossLayer
{
    private readonly LayerContext _context;
    private readonly IReadOnlyList<TaskDescription> _tasks;
    private readonly IReadOnlyList<int> _classes;
    private readonly IReadOnlyList<Slot> _logits;
    private readonly IReadOnlyList<Slot> _gradients;
    private readonly IReadOnlyList<double> _scales;
    private readonly DeviceBatch _batch;
    private readonly HostReadable<double> _kept;
    private nint _results;
    private LossTask* _native;
    private LossArgs _args;

    /// <param name="context">The context.</param>
    /// <param name="batch">Where the labels are.</param>
    /// <param name="tasks">The tasks.</param>
    /// <param name="classes">Logits of each task.</param>
    /// <param name="logits">[rows, classes] for each task.</param>
    /// <param name="gradients">The same for the gradients; empty when there is no training.</param>
    /// <param name="scales">Factor of each task's gradient.</param>
    public LossLayer(LayerContext context, DeviceBatch batch, IReadOnlyList<TaskDescription> tasks, IReadOnlyList<int> classes, IReadOnlyList<Slot> logits, IReadOnlyList<Slot> gradients, IReadOnlyList<double> scales)
    {
        context.OnDispose(Free);
        _context = context;
        _batch = batch;
        _tasks = tasks;
        _classes = classes;
        _logits = logits;
        _gradients = gradients;
        _scales = scales;
        Kept = context.Device.Info.HostAccessible ? 1 : LayerContext.StepsAhead;
        _kept = new(context, "losses", 2L * Kept * tasks.Count);
        // Captured runs write to one place; what is kept is copied from there.
        if (Kept > 1)
            context.Activations.Reserve("losses.last", ResultBytes, p => _results = p);
        _native = (LossTask*)NativeMemory.AllocZeroed((nuint)tasks.Count, (nuint)sizeof(LossTask));
        context.OnBind(Bind);
    }

    /// <summary>The results of so many runs are kept: one where the host reads them in place, else as many as may be queued.</summary>
    public int Kept { get; }

    /// <summary>How often it ran.</summary>
    public long Runs { get; private set; }

    /// <summary>Mean loss of each task over its valid rows; 0 when it has none.</summary>
    /// <param name="run">One of the last <see cref="Kept"/> runs, counted from 0.</param>
    public ReadOnlySpan<double> Losses(long run) => _kept.Read().Slice(Place(run), _tasks.Count);

    /// <summary>Sum of the weights of each task's valid rows.</summary>
    /// <param name="run">One of the last <see cref="Kept"/> runs, counted from 0.</param>
    public ReadOnlySpan<double> WeightSums(long run) => _kept.Read().Slice(Place(run) + _tasks.Count, _tasks.Count);

    private long ResultBytes => 2L * _tasks.Count * sizeof(double);

    /// <summary>Makes the labels of a batch readable to <see cref="Run"/>.</summary>
    public void Load(Batch batch)
    {
        _batch.LoadLabels(batch);
        for (int t = 0; t < _tasks.Count; t++)
        {
            _native[t].Labels = _batch.Labels(t);
            _native[t].Weights = _batch.Weights(t);
        }

        _args.Rows = batch.Rows;
    }

    /// <summary>Computes the losses of what was loaded.</summary>
    public void Run()
    {
        _args.Workspace = (void*)_context.Workspace;
        _args.WorkspaceBytes = _context.WorkspaceBytes;
        fixed (LossArgs* args = &_args)
            NativeStatus.Check(NativeMethods.Loss(_context.Stream.Native, args));
    }

    /// <summary>Keeps the results of the last run.</summary>
    public void Keep()
    {
        if (Kept > 1)
            _context.Stream.CopyOnDevice(_results, (nint)(_kept.Device + Place(Runs)), ResultBytes);
        _kept.Written();
        Runs++;
    }

    private void Free()
    {
        NativeMemory.Free(_native);
        _native = null;
    }

    private int Place(long run) => (int)(Math.Max(run, 0) % Kept) * 2 * _tasks.Count;

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

        double* results = Kept > 1 ? (double*)_results : _kept.Device;
        _args = new()
        {
            StructSize = (uint)sizeof(LossArgs),
            TaskCount = _tasks.Count,
            Rows = _context.MaxRows,
            Tasks = _native,
            Losses = results,
            WeightSums = results + _tasks.Count,
        };
        long bytes;
        fixed (LossArgs* args = &_args)
            NativeStatus.Check(NativeMethods.LossWorkspace(_context.Stream.Native, args, &bytes));
        _context.NeedWorkspace(bytes);
    }
}
