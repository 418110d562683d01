using CudaMoE.Interop;

namespace CudaMoE.Layers;

/// <summary>The balance family of the native library over slots. Task t's matrix lies <c>taskStride</c> elements after task t - 1's.</summary>
internal static unsafe class BalanceOperations
{
    /// <summary>Multiplies a matrix by a number in device memory.</summary>
    public static void Scale(LayerContext context, Slot matrix, long rows, float* factor) =>
        Combine(context, matrix, 0, 1, rows, factor, matrix, accumulate: false);

    /// <summary>Multiplies a parameter's gradient by a number in device memory.</summary>
    public static void ScaleGradient(LayerContext context, Parameter parameter, float* factor)
    {
        BalanceCombineArgs args = new()
        {
            StructSize = (uint)sizeof(BalanceCombineArgs),
            Tasks = 1,
            Rows = 1,
            Width = parameter.Count,
            Gradients = (float*)parameter.Gradient,
            RowStride = parameter.Count,
            Weights = factor,
            Output = (float*)parameter.Gradient,
            OutputRowStride = parameter.Count,
        };
        NativeStatus.Check(NativeMethods.BalanceCombine(context.Stream.Native, &args));
    }

    /// <summary>output (+)= sum over t of weights[t] * gradients[t], each [rows, width of the output].</summary>
    public static void Combine(LayerContext context, Slot gradients, long taskStride, int tasks, long rows, float* weights, Slot output, bool accumulate)
    {
        BalanceCombineArgs args = new()
        {
            StructSize = (uint)sizeof(BalanceCombineArgs),
            Tasks = tasks,
            Rows = rows,
            Width = output.Columns,
            Gradients = gradients.Data,
            TaskStride = taskStride,
            RowStride = gradients.RowStride,
            Weights = weights,
            Output = output.Data,
            OutputRowStride = output.RowStride,
            Accumulate = accumulate ? 1 : 0,
        };
        NativeStatus.Check(NativeMethods.BalanceCombine(context.Stream.Native, &args));
    }

    /// <summary>gram[i, j] = inner product of the gradients of tasks i and j, [tasks, tasks] in device memory.</summary>
    public static void Gram(LayerContext context, Slot gradients, long taskStride, int tasks, long rows, double* gram)
    {
        BalanceGramArgs args = GramArgs(gradients, taskStride, tasks, rows);
        args.Gram = gram;
        args.Workspace = (void*)context.Workspace;
        args.WorkspaceBytes = context.WorkspaceBytes;
        NativeStatus.Check(NativeMethods.BalanceGram(context.Stream.Native, &args));
    }

    /// <summary>The same of matrices as wide as the slot, wherever they lie: <paramref name="taskStride"/> need not be the width.</summary>
    public static void GramOf(LayerContext context, Slot gradients, long taskStride, int tasks, long rows, double* gram)
    {
        BalanceGramArgs args = GramArgs(gradients, taskStride, tasks, rows) with { Width = gradients.Columns };
        args.Gram = gram;
        args.Workspace = (void*)context.Workspace;
        args.WorkspaceBytes = context.WorkspaceBytes;
        NativeStatus.Check(NativeMethods.BalanceGram(context.Stream.Native, &args));
    }

    /// <summary>Asks for the work space of <see cref="GramOf"/>; while binding.</summary>
    public static void NeedGramOf(LayerContext context, Slot gradients, long taskStride, int tasks, long rows)
    {
        BalanceGramArgs args = GramArgs(gradients, taskStride, tasks, rows) with { Width = gradients.Columns };
        long bytes;
        NativeStatus.Check(NativeMethods.BalanceGramWorkspace(context.Stream.Native, &args, &bytes));
        context.NeedWorkspace(bytes);
    }

    /// <summary>Asks for the work space of <see cref="Gram"/> at the largest batch; while binding.</summary>
    public static void NeedGramWorkspace(LayerContext context, Slot gradients, long taskStride, int tasks)
    {
        BalanceGramArgs args = GramArgs(gradients, taskStride, tasks, context.MaxRows);
        long bytes;
        NativeStatus.Check(NativeMethods.BalanceGramWorkspace(context.Stream.Native, &args, &bytes));
        context.NeedWorkspace(bytes);
    }

    private static BalanceGramArgs GramArgs(Slot gradients, long taskStride, int tasks, long rows) => new()
    {
        StructSize = (uint)sizeof(BalanceGramArgs),
        Tasks = tasks,
        Rows = rows,
        Width = taskStride,
        Gradients = gradients.Data,
        TaskStride = taskStride,
        RowStride = gradients.RowStride,
    };
}
