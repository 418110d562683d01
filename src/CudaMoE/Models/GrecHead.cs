using CudaMoE.Description;
using CudaMoE.Layers;

namespace CudaMoE.Models;

/// <summary>Makes one token of a grec model from a part of the feature row.</summary>
internal abstract class GrecHead
{
    /// <summary>[rows, width], rows without gaps.</summary>
    public abstract Slot Output { get; }

    /// <summary>Where the gradient of <see cref="Output"/>, before its activation, is to be written for the backward; rows without gaps.</summary>
    public abstract Slot OutputGradient { get; }

    /// <summary>The activation that made <see cref="Output"/>.</summary>
    public virtual ActivationKind Activation => ActivationKind.None;

    /// <summary>The output before that activation, where the derivative is taken from it.</summary>
    public virtual Slot? Preactivation => null;

    public virtual void Initialize()
    {
    }

    public abstract void Pack();

    public abstract void Forward(long rows);

    /// <summary>From <see cref="OutputGradient"/> to the parameters' gradients and to the head's columns of <paramref name="row"/>; null = nobody wants those.</summary>
    public abstract void Backward(long rows, Slot? row);
}

/// <summary>A linear layer over some columns: the text and the current item.</summary>
internal sealed class GrecLinearHead : GrecHead
{
    private readonly FeatureColumns _columns;
    private readonly Linear _linear;

    public GrecLinearHead(LayerContext context, string name, FeatureColumns columns, int width)
    {
        _columns = columns;
        Output = context.ReserveExact($"{name}.token", width);
        if (context.Training)
            OutputGradient = context.ReserveExact($"{name}.token_gradient", width);
        _linear = new(context, new()
        {
            Groups = 1,
            N = width,
            K = columns.Output.Columns,
            Input = GroupInput.Shared,
            X = columns.Output,
            Y = Output,
            Weight = context.Parameters.Add($"{name}.weight", ParameterKind.Weight, width, columns.Output.Columns),
            Bias = context.Parameters.Add($"{name}.bias", ParameterKind.Bias, width),
        });
    }

    public override Slot Output { get; }

    public override Slot OutputGradient { get; } = null!;

    public override void Pack() => _linear.Pack();

    public override void Forward(long rows)
    {
        _columns.Forward(rows);
        _linear.Forward(rows);
    }

    public override void Backward(long rows, Slot? row)
    {
        _linear.BackwardWeights(rows, OutputGradient);
        if (row == null)
            return;
        _linear.BackwardInput(rows, OutputGradient, new(_columns.OutputGradient, Accumulate: false, Below: null, ActivationKind.None));
        _columns.Backward(rows, row);
    }
}

/// <summary>Embeddings that are the token as they are.</summary>
internal sealed class GrecEmbeddedHead(FeatureColumns columns) : GrecHead
{
    public override Slot Output => columns.Output;

    public override Slot OutputGradient => columns.OutputGradient;

    public override void Pack()
    {
    }

    public override void Forward(long rows) => columns.Forward(rows);

    public override void Backward(long rows, Slot? row)
    {
        if (row != null)
            columns.Backward(rows, row);
    }
}

/// <summary>Wide and deep: one layer over the embeddings and one over the numbers, each half of the token; the whole where there is only one kind.</summary>
internal sealed class GrecContextHead : GrecHead
{
    private readonly List<(FeatureColumns Columns, Linear Linear)> _halves = [];

    /// <param name="context">The context.</param>
    /// <param name="deep">Columns of embeddings; null = none.</param>
    /// <param name="wide">Columns of numbers; null = none.</param>
    /// <param name="width">Width of the token.</param>
    /// <param name="activation">Of both layers.</param>
    public GrecContextHead(LayerContext context, FeatureColumns? deep, FeatureColumns? wide, int width, ActivationKind activation)
    {
        Activation = activation;
        Output = context.ReserveExact("context.token", width);
        if (context.Training)
        {
            OutputGradient = context.ReserveExact("context.token_gradient", width);
            if (activation is ActivationKind.Gelu or ActivationKind.Silu)
                Preactivation = context.ReserveExact("context.token_before", width);
        }

        int deepWidth = deep == null ? 0 : wide == null ? width : width / 2;
        Add("deep", deep, 0, deepWidth);
        Add("wide", wide, deepWidth, width - deepWidth);

        void Add(string name, FeatureColumns? columns, int column, int count)
        {
            if (columns == null)
                return;
            Linear linear = new(context, new()
            {
                Groups = 1,
                N = count,
                K = columns.Output.Columns,
                Input = GroupInput.Shared,
                X = columns.Output,
                Y = Output,
                OutputColumn = column,
                Preactivation = Preactivation,
                Activation = activation,
                Weight = context.Parameters.Add($"context.{name}.weight", ParameterKind.Weight, count, columns.Output.Columns),
                Bias = context.Parameters.Add($"context.{name}.bias", ParameterKind.Bias, count),
            });
            _halves.Add((columns, linear));
        }
    }

    public override Slot Output { get; }

    public override Slot OutputGradient { get; } = null!;

    public override ActivationKind Activation { get; }

    public override Slot? Preactivation { get; }

    public override void Pack()
    {
        foreach ((_, Linear linear) in _halves)
            linear.Pack();
    }

    public override void Forward(long rows)
    {
        foreach ((FeatureColumns columns, Linear linear) in _halves)
        {
            columns.Forward(rows);
            linear.Forward(rows);
        }
    }

    public override void Backward(long rows, Slot? row)
    {
        foreach ((FeatureColumns columns, Linear linear) in _halves)
        {
            linear.BackwardWeights(rows, OutputGradient);
            if (row == null)
                continue;
            linear.BackwardInput(rows, OutputGradient, new(columns.OutputGradient, Accumulate: false, Below: null, ActivationKind.None));
            columns.Backward(rows, row);
        }
    }
}
