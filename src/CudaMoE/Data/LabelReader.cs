using System.Text;
using CudaMoE.Description;

namespace CudaMoE.Data;

/// <summary>Reads a task's label, weight and mask from the rows of a file.</summary>
internal sealed class LabelReader
{
    private readonly TaskDescription _task;
    private readonly string _purpose;
    private readonly byte[][]? _positive;
    private readonly byte[][]? _kept;
    private readonly bool[]? _positiveSeen;
    private int _column;
    private int _weightColumn;
    private int _maskColumn;

    public LabelReader(TaskDescription task)
    {
        _task = task;
        _purpose = $"task \"{task.Name}\"";
        if (task.Type == TaskType.Binary)
            _positive = task.Positive?.Select(Encoding.UTF8.GetBytes).ToArray();
        _positiveSeen = _positive is null ? null : new bool[_positive.Length];
        _kept = task.Mask?.In.Select(Encoding.UTF8.GetBytes).ToArray();
    }

    /// <summary>Whether rows can have a weight other than 1.</summary>
    public static bool HasWeights(TaskDescription task) => task.WeightColumn is not null || task.Mask is not null;

    /// <summary>The positive texts that no row held so far.</summary>
    public IEnumerable<string> PositivesNeverSeen => _positiveSeen is null ? [] : _task.Positive!.Where((_, i) => !_positiveSeen[i]);

    public void Bind(DelimitedReader reader)
    {
        _column = reader.IndexOf(_task.Column ?? _task.Name, _purpose);
        _weightColumn = _task.WeightColumn is null ? -1 : reader.IndexOf(_task.WeightColumn, $"{_purpose}, weight_column,");
        _maskColumn = _task.Mask is null ? -1 : reader.IndexOf(_task.Mask.Column, $"{_purpose}, mask,");
    }

    public ReadOnlySpan<byte> Text(DelimitedReader reader) => reader.Field(_column);

    public bool IsMissing(DelimitedReader reader) => reader.IsMissing(reader.Field(_column));

    public bool IsMasked(DelimitedReader reader)
    {
        if (_kept is null)
            return false;
        ReadOnlySpan<byte> text = reader.Field(_maskColumn);
        foreach (byte[] kept in _kept)
        {
            if (text.SequenceEqual(kept))
                return false;
        }

        return true;
    }

    /// <summary>The row's weight: its weight column's, 0 where the mask leaves it out.</summary>
    public float Weight(DelimitedReader reader)
    {
        float weight = 1;
        if (_weightColumn >= 0)
        {
            weight = (float)reader.Number(_weightColumn, "a sample weight is a number of at least 0");
            if (!(weight >= 0 && float.IsFinite(weight)))
                throw reader.Error(_weightColumn, $"the weight {weight} must be finite and at least 0");
        }

        return IsMasked(reader) ? 0 : weight;
    }

    /// <summary>The label of a binary or regression task in its own unit, not transformed.</summary>
    public double Number(DelimitedReader reader)
    {
        if (_positive is not null)
        {
            ReadOnlySpan<byte> text = reader.Field(_column);
            for (int i = 0; i < _positive.Length; i++)
            {
                if (!text.SequenceEqual(_positive[i]))
                    continue;
                _positiveSeen![i] = true;
                return 1;
            }

            return 0;
        }

        if (_task.Type == TaskType.Binary)
        {
            const string Rule = "a binary label is a number from 0 to 1, or the task lists its positive texts in \"positive\"";
            double label = reader.Number(_column, Rule);
            return label is >= 0 and <= 1 ? label : throw reader.Error(_column, $"the label {label} is out of range; {Rule}");
        }

        double value = reader.Number(_column, "a regression label is a number");
        if (_task.Transform == LabelTransform.Log && value < 0)
            throw reader.Error(_column, $"the label {value} is below 0, which the transform log does not take");
        return value;
    }

    public DataException Error(DelimitedReader reader, string rule) => reader.Error(_column, rule);
}
