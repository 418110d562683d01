using CudaMoE.Layers;

namespace CudaMoE.Models;

/// <summary>Some columns of the feature row side by side, and the way back of their gradient.</summary>
internal sealed class FeatureColumns
{
    private readonly SlotSums _sums;
    private readonly Slot _row;
    private readonly List<(long Column, long Width)> _runs = [];

    /// <param name="context">The context.</param>
    /// <param name="sums">Copies.</param>
    /// <param name="name">Name of the buffers.</param>
    /// <param name="row">The feature row.</param>
    /// <param name="columns">First column and width of each part, in the order that they are to have; at least one.</param>
    public FeatureColumns(LayerContext context, SlotSums sums, string name, Slot row, IEnumerable<(long Column, long Width)> columns)
    {
        _sums = sums;
        _row = row;
        foreach ((long column, long width) in columns)
        {
            if (_runs.Count > 0 && _runs[^1].Column + _runs[^1].Width == column)
                _runs[^1] = (_runs[^1].Column, _runs[^1].Width + width);
            else
                _runs.Add((column, width));
        }

        Output = context.ReserveExact($"{name}.columns", _runs.Sum(run => run.Width));
        if (context.Training)
            OutputGradient = context.ReserveExact($"{name}.columns_gradient", Output.Columns);
    }

    /// <summary>[rows, width], rows without gaps.</summary>
    public Slot Output { get; }

    /// <summary>Where the gradient of <see cref="Output"/> is to be written for the backward; rows without gaps.</summary>
    public Slot OutputGradient { get; } = null!;

    public void Forward(long rows)
    {
        long place = 0;
        foreach ((long column, long width) in _runs)
        {
            _sums.Copy(rows, _row.Slice(column, width), Output.Slice(place, width));
            place += width;
        }
    }

    /// <summary>Writes the gradient to its columns of the feature row's.</summary>
    public void Backward(long rows, Slot row)
    {
        long place = 0;
        foreach ((long column, long width) in _runs)
        {
            _sums.Copy(rows, OutputGradient.Slice(place, width), row.Slice(column, width));
            place += width;
        }
    }
}
