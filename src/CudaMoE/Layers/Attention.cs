using CudaMoE.Interop;

namespace CudaMoE.Layers;

/// <summary>Wiring of an <see cref="Attention"/>.</summary>
internal sealed record AttentionPlan
{
    /// <summary>Name of its buffers.</summary>
    public required string Name { get; init; }

    /// <summary>[sequences * queries, heads * head width].</summary>
    public required Slot Q { get; init; }

    /// <summary>[sequences * keys, key heads * head width]; with <see cref="SharedKeys"/> [keys, ...].</summary>
    public required Slot K { get; init; }

    /// <summary>In the layout of <see cref="K"/>.</summary>
    public required Slot V { get; init; }

    public required int Heads { get; init; }

    /// <summary>1 = multi-query, <see cref="Heads"/> = multi-head attention.</summary>
    public required int KeyHeads { get; init; }

    public required int HeadWidth { get; init; }

    /// <summary>Queries of a sequence.</summary>
    public required int Queries { get; init; }

    /// <summary>Keys of a sequence.</summary>
    public required int Keys { get; init; }

    /// <summary>Whether query i sees no key behind i + keys - queries.</summary>
    public bool Causal { get; init; }

    /// <summary>Whether all sequences have the same keys and values.</summary>
    public bool SharedKeys { get; init; }

    /// <summary>Factor of the scores; null = 1 / sqrt(head width).</summary>
    public float? Scale { get; init; }

    /// <summary>[sequences, keys] factors of the values, without gradient; null = 1.</summary>
    public Slot? KeyWeights { get; init; }
}

/// <summary>
/// Scaled dot-product attention over a batch of short sequences (Vaswani et al. 2017, section 3.2; one key head: Shazeer 2019). Queries, keys and values
/// are slots, and may be columns of one matrix. Keys at and behind a sequence's key count are not seen; a query that sees none gives 0.
/// </summary>
internal sealed unsafe class Attention
{
    private readonly LayerContext _context;
    private readonly AttentionPlan _plan;
    private nint _logSum;
    private AttentionForwardArgs _forward;
    private AttentionBackwardArgs _backward;

    /// <param name="context">The context whose rows are the sequences.</param>
    /// <param name="plan">The wiring.</param>
    public Attention(LayerContext context, AttentionPlan plan)
    {
        _context = context;
        _plan = plan;
        long width = (long)plan.Heads * plan.HeadWidth;
        LayerContext queries = context.Times(plan.Queries);
        Output = queries.Reserve($"{plan.Name}.output", width);
        if (context.Training)
        {
            OutputGradient = queries.Reserve($"{plan.Name}.gradient", width);
            context.Activations.Reserve($"{plan.Name}.log_sum", (long)queries.MaxRows * plan.Heads * sizeof(float), p => _logSum = p);
        }

        context.OnBind(Bind);
    }

    /// <summary>[sequences * queries, heads * head width].</summary>
    public Slot Output { get; }

    /// <summary>Where the gradient of <see cref="Output"/> is to be written for the backward.</summary>
    public Slot OutputGradient { get; } = null!;

    /// <param name="sequences">Sequences of the batch.</param>
    /// <param name="keyCounts">[sequences] keys that are seen, in device memory; null = all. Kept until the backward.</param>
    public void Forward(long sequences, int* keyCounts)
    {
        _forward.Sequences = sequences;
        _forward.KeyCounts = keyCounts;
        _forward.Workspace = (void*)_context.Workspace;
        _forward.WorkspaceBytes = _context.WorkspaceBytes;
        fixed (AttentionForwardArgs* args = &_forward)
            NativeStatus.Check(NativeMethods.AttentionForward(_context.Stream.Native, args));
    }

    /// <summary>From <see cref="OutputGradient"/> to the gradients of queries, keys and values, which are overwritten; they may be columns of one matrix.</summary>
    public void Backward(long sequences, Slot dq, Slot dk, Slot dv)
    {
        _backward.Sequences = sequences;
        _backward.KeyCounts = _forward.KeyCounts;
        _backward.Dq = dq.Data;
        _backward.DqRowStride = dq.RowStride;
        _backward.Dk = dk.Data;
        _backward.DkRowStride = dk.RowStride;
        _backward.Dv = dv.Data;
        _backward.DvRowStride = dv.RowStride;
        _backward.Workspace = (void*)_context.Workspace;
        _backward.WorkspaceBytes = _context.WorkspaceBytes;
        fixed (AttentionBackwardArgs* args = &_backward)
            NativeStatus.Check(NativeMethods.AttentionBackward(_context.Stream.Native, args));
    }

    private void Bind()
    {
        float scale = _plan.Scale ?? 1 / MathF.Sqrt(_plan.HeadWidth);
        float* keyWeights = _plan.KeyWeights == null ? null : _plan.KeyWeights.Data;
        long keyWeightsStride = _plan.KeyWeights?.RowStride ?? 0;
        _forward = new()
        {
            StructSize = (uint)sizeof(AttentionForwardArgs),
            Causal = _plan.Causal ? 1 : 0,
            SharedKeys = _plan.SharedKeys ? 1 : 0,
            Heads = _plan.Heads,
            KeyHeads = _plan.KeyHeads,
            HeadWidth = _plan.HeadWidth,
            Scale = scale,
            Sequences = _context.MaxRows,
            Queries = _plan.Queries,
            Keys = _plan.Keys,
            Q = _plan.Q.Data,
            QRowStride = _plan.Q.RowStride,
            K = _plan.K.Data,
            KRowStride = _plan.K.RowStride,
            V = _plan.V.Data,
            VRowStride = _plan.V.RowStride,
            KeyWeights = keyWeights,
            KeyWeightsRowStride = keyWeightsStride,
            Y = Output.Data,
            YRowStride = Output.RowStride,
            LogSum = (float*)_logSum,
        };
        long bytes;
        fixed (AttentionForwardArgs* args = &_forward)
            NativeStatus.Check(NativeMethods.AttentionForwardWorkspace(_context.Stream.Native, args, &bytes));
        _context.NeedWorkspace(bytes);
        if (!_context.Training)
            return;
        _backward = new()
        {
            StructSize = (uint)sizeof(AttentionBackwardArgs),
            Causal = _forward.Causal,
            SharedKeys = _forward.SharedKeys,
            Heads = _plan.Heads,
            KeyHeads = _plan.KeyHeads,
            HeadWidth = _plan.HeadWidth,
            Scale = scale,
            Sequences = _context.MaxRows,
            Queries = _plan.Queries,
            Keys = _plan.Keys,
            Q = _forward.Q,
            QRowStride = _forward.QRowStride,
            K = _forward.K,
            KRowStride = _forward.KRowStride,
            V = _forward.V,
            VRowStride = _forward.VRowStride,
            KeyWeights = keyWeights,
            KeyWeightsRowStride = keyWeightsStride,
            Y = Output.Data,
            YRowStride = Output.RowStride,
            LogSum = (float*)_logSum,
            Dy = OutputGradient.Data,
            DyRowStride = OutputGradient.RowStride,
        };
        fixed (AttentionBackwardArgs* args = &_backward)
            NativeStatus.Check(NativeMethods.AttentionBackwardWorkspace(_context.Stream.Native, args, &bytes));
        _context.NeedWorkspace(bytes);
    }
}
