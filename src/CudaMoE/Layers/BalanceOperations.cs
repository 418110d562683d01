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

    /// <summary>Sums over the rows of each task's gradient, of columns as wide as the slot; see <c>cudamoe_balance_columns</c>.</summary>
    public static void Columns(LayerContext context, in ColumnSums sums)
    {
        BalanceColumnsArgs args = ColumnsArgs(sums);
        args.Workspace = (void*)context.Workspace;
        args.WorkspaceBytes = context.WorkspaceBytes;
        NativeStatus.Check(NativeMethods.BalanceColumns(context.Stream.Native, &args));
    }

    /// <summary>Bytes of work space that <see cref="Columns"/> needs.</summary>
    public static long ColumnsWorkspace(LayerContext context, in ColumnSums sums)
    {
        BalanceColumnsArgs args = ColumnsArgs(sums);
        long bytes;
        NativeStatus.Check(NativeMethods.BalanceColumnsWorkspace(context.Stream.Native, &args, &bytes));
        return bytes;
    }

    /// <summary>Multiplies the columns of each task's gradient by factors [tasks, columns of the slot] in device memory.</summary>
    public static void ScaleColumns(LayerContext context, Slot gradients, long taskStride, int tasks, long rows, float* factors)
    {
        BalanceScaleArgs args = new()
        {
            StructSize = (uint)sizeof(BalanceScaleArgs),
            Tasks = tasks,
            Rows = rows,
            Width = gradients.Columns,
            Gradients = gradients.Data,
            TaskStride = taskStride,
            RowStride = gradients.RowStride,
            Factors = factors,
        };
        NativeStatus.Check(NativeMethods.BalanceScale(context.Stream.Native, &args));
    }

    private static BalanceColumnsArgs ColumnsArgs(in ColumnSums sums) => new()
    {
        StructSize = (uint)sizeof(BalanceColumnsArgs),
        Tasks = sums.Tasks,
        Rows = sums.Rows,
        Width = sums.Gradients.Columns,
        Gradients = sums.Gradients.Data,
        TaskStride = sums.TaskStride,
        RowStride = sums.Gradients.RowStride,
        Values = sums.Values == null ? null : sums.Values.Data,
        ValuesTaskStride = sums.Values == null ? 0 : sums.ValuesTaskStride,
        ValuesRowStride = sums.Values?.RowStride ?? 0,
        Parts = sums.Parts,
        Sums = sums.Sums,
    };

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

    /// <summary>Which sums of columns: of the gradients, times the signs of values if there are some, of all rows or of even and odd ones.</summary>
    public readonly ref struct ColumnSums(Slot gradients, long taskStride, Slot? values, long valuesTaskStride, int tasks, long rows, int parts, double* sums)
    {
        public Slot Gradients { get; } = gradients;

        public long TaskStride { get; } = taskStride;

        public Slot? Values { get; } = values;

        public long ValuesTaskStride { get; } = valuesTaskStride;

        public int Tasks { get; } = tasks;

        public long Rows { get; } = rows;

        public int Parts { get; } = parts;

        public double* Sums { get; } = sums;
    }
}
