using CudaMoE.Layers;

namespace CudaMoE.Models;

/// <summary>Sequences whose embeddings stand side by side at every position.</summary>
internal sealed class SequenceFactor
{
    private readonly SlotSums _sums;
    private readonly int _positions;
    private readonly FeatureColumns[] _parts;

    /// <param name="tokens">The context whose rows are positions.</param>
    /// <param name="sums">Copies.</param>
    /// <param name="name">Name of the buffers.</param>
    /// <param name="positions">Positions of a sequence.</param>
    /// <param name="parts">The columns of each sequence.</param>
    public SequenceFactor(LayerContext tokens, SlotSums sums, string name, int positions, FeatureColumns[] parts)
    {
        _sums = sums;
        _positions = positions;
        _parts = parts;
        if (parts.Length == 1)
        {
            Output = Tokens(parts[0].Output);
            if (tokens.Training)
                OutputGradient = Tokens(parts[0].OutputGradient);
            return;
        }

        long width = parts.Sum(part => part.Output.Columns / positions);
        Output = tokens.ReserveExact($"{name}.positions", width);
        if (tokens.Training)
            OutputGradient = tokens.ReserveExact($"{name}.positions_gradient", width);
    }

    /// <summary>[rows * positions, width], rows without gaps.</summary>
    public Slot Output { get; }

    /// <summary>Where the gradient of <see cref="Output"/> is to be written for the backward; rows without gaps.</summary>
    public Slot OutputGradient { get; } = null!;

    public void Forward(long rows)
    {
        long column = 0;
        foreach (FeatureColumns part in _parts)
        {
            part.Forward(rows);
            if (_parts.Length == 1)
                return;
            Slot tokens = Tokens(part.Output);
            _sums.Copy(rows * _positions, tokens, Output.Slice(column, tokens.Columns));
            column += tokens.Columns;
        }
    }

    /// <summary>Writes the gradient to the sequences' columns of the feature row's.</summary>
    public void Backward(long rows, Slot row)
    {
        long column = 0;
        foreach (FeatureColumns part in _parts)
        {
            if (_parts.Length > 1)
            {
                Slot tokens = Tokens(part.OutputGradient);
                _sums.Copy(rows * _positions, OutputGradient.Slice(column, tokens.Columns), tokens);
                column += tokens.Columns;
            }

            part.Backward(rows, row);
        }
    }

    private Slot Tokens(Slot sequence)
    {
        long width = sequence.Columns / _positions;
        return sequence.Reshape(width, width);
    }
}
