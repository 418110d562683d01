using System.Globalization;

namespace CudaMoE.Serving;

/// <summary>A field of a <see cref="FeatureRow"/>: text, a number, or several of them for multi-hot features, sequences and vectors. Texts and numbers turn into one by themselves.</summary>
public readonly struct FeatureValue
{
    private FeatureValue(string? text, IReadOnlyList<string>? list)
    {
        Text = text;
        List = list;
    }

    /// <summary>The text of a single value; null when it is not known, or a list.</summary>
    internal string? Text { get; }

    /// <summary>The texts of a list; null when it is none.</summary>
    internal IReadOnlyList<string>? List { get; }

    /// <summary>Not known, as an empty field of a file.</summary>
    public static FeatureValue Missing => default;

    /// <summary>A category or a number as text; null is <see cref="Missing"/>.</summary>
    public static implicit operator FeatureValue(string? text) => new(text, null);

    /// <summary>A number.</summary>
    public static implicit operator FeatureValue(double number) => new(number.ToString("R", CultureInfo.InvariantCulture), null);

    /// <summary>A number or an id.</summary>
    public static implicit operator FeatureValue(long number) => new(number.ToString(CultureInfo.InvariantCulture), null);

    /// <summary>A number or an id.</summary>
    public static implicit operator FeatureValue(int number) => new(number.ToString(CultureInfo.InvariantCulture), null);

    /// <summary>Categories of a multi-hot feature or a sequence.</summary>
    public static implicit operator FeatureValue(string[] values) => new(null, values);

    /// <summary>Numbers of a vector.</summary>
    public static implicit operator FeatureValue(float[] values) => new(null, [.. values.Select(value => value.ToString("R", CultureInfo.InvariantCulture))]);

    /// <summary>Texts of a list.</summary>
    public static FeatureValue Of(IEnumerable<string> values) => new(null, [.. values]);
}
