using System.Text;
using CudaMoE.Data;
using CudaMoE.Description;

namespace CudaMoE.Serving;

/// <summary>The columns that a trained model reads, each once.</summary>
internal sealed class InputColumns
{
    private readonly Dictionary<string, int> _places = new(StringComparer.Ordinal);
    private readonly List<string> _names = [];
    private readonly List<string?> _separators = [];
    private readonly byte[][] _missing;

    public InputColumns(FittedEncoders encoders)
    {
        Trim = encoders.Format.Trim;
        _missing = [.. encoders.Format.Missing.Select(Encoding.UTF8.GetBytes)];
        foreach (FittedFeature feature in encoders.Features)
        {
            if (!_places.TryGetValue(feature.Column, out int place))
            {
                _places[feature.Column] = place = _names.Count;
                _names.Add(feature.Column);
                _separators.Add(null);
            }

            if (FeatureRules.IsSeparated(feature.Description))
                _separators[place] = feature.Description.ValueSeparator;
        }
    }

    /// <summary>Their names.</summary>
    public IReadOnlyList<string> Names => _names;

    /// <summary>Whether blanks around a field are dropped, as the training files' were.</summary>
    public bool Trim { get; }

    /// <summary>What stands between the values of a column of lists; null for one of single values.</summary>
    public string? Separator(int place) => _separators[place];

    /// <summary>The place of a column.</summary>
    /// <exception cref="DataException">The model reads no such column.</exception>
    public int IndexOf(string column)
    {
        if (_places.TryGetValue(column, out int place))
            return place;
        string help = NearestName.Suggestion(column, _names);
        if (help.Length == 0)
            help = $"; it reads {string.Join(", ", _names.Take(20))}{(_names.Count > 20 ? ", ..." : "")}";
        throw new DataException($"the model reads no column \"{column}\"{help}");
    }

    /// <summary>Whether a text means "not known".</summary>
    public bool IsMissing(ReadOnlySpan<byte> text)
    {
        if (text.IsEmpty)
            return true;
        foreach (byte[] missing in _missing)
        {
            if (text.SequenceEqual(missing))
                return true;
        }

        return false;
    }
}
