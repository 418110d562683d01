using CudaMoE.Layers;

namespace CudaMoE.Models;

/// <summary>A trained vector for each task, the same for all samples, as rows of a batch: a linear layer whose input is 1.</summary>
internal sealed class GrecTasks
{
    private readonly LayerContext _context;
    private readonly Linear _linear;

    /// <param name="context">The context.</param>
    /// <param name="name">Name of the parameter, [tasks, width].</param>
    /// <param name="tasks">Tasks.</param>
    /// <param name="width">Width of a vector.</param>
    public GrecTasks(LayerContext context, string name, int tasks, long width)
    {
        _context = context;
        Slot ones = Slot.ReserveExact(context.Activations, $"{name}.ones", context.MaxRows, 1, 1);
        Output = context.ReserveExact($"{name}.output", tasks * width);
        if (context.Training)
            OutputGradient = context.ReserveExact($"{name}.gradient", tasks * width);
        _linear = new(context, new()
        {
            Groups = 1,
            N = tasks * width,
            K = 1,
            Input = GroupInput.Shared,
            X = ones,
            Y = Output,
            Weight = context.Parameters.Add(name, ParameterKind.Mixing, tasks, width),
        });
        context.OnBind(() => Fill(ones));
    }

    /// <summary>[rows, tasks * width], rows without gaps.</summary>
    public Slot Output { get; }

    /// <summary>Where the gradient of <see cref="Output"/> is to be written for the backward.</summary>
    public Slot OutputGradient { get; } = null!;

    public void Pack() => _linear.Pack();

    public void Forward(long rows) => _linear.Forward(rows);

    public void Backward(long rows) => _linear.BackwardWeights(rows, OutputGradient);

    private void Fill(Slot ones)
    {
        float[] values = new float[_context.MaxRows];
        Array.Fill(values, 1f);
        _context.Stream.CopyToDevice<float>(values, ones.Pointer);
    }
}
