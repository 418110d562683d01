namespace CudaMoE.Description;

/// <summary>The range of a number in a description, or of each number of a list. Stated once: the validator enforces it and the schema shows it.</summary>
/// <param name="minimum">The least value.</param>
/// <param name="maximum">The largest value.</param>
[AttributeUsage(AttributeTargets.Property)]
public sealed class NumberRangeAttribute(double minimum, double maximum = double.PositiveInfinity) : Attribute
{
    /// <summary>The least value.</summary>
    public double Minimum { get; } = minimum;

    /// <summary>The largest value; infinity for none (infinity itself is never allowed).</summary>
    public double Maximum { get; } = maximum;

    /// <summary>Whether the minimum itself is not allowed.</summary>
    public bool AboveMinimum { get; init; }

    /// <summary>Whether the maximum itself is not allowed.</summary>
    public bool BelowMaximum { get; init; }

    /// <summary>Whether the range holds the value; NaN and infinities are never in it.</summary>
    public bool Contains(double value) => double.IsFinite(value)
        && (AboveMinimum ? value > Minimum : value >= Minimum)
        && (BelowMaximum ? value < Maximum : value <= Maximum);

    /// <summary>The rule in words, e.g. "at least 0 and below 1".</summary>
    public override string ToString()
    {
        string low = FormattableString.Invariant($"{(AboveMinimum ? "above" : "at least")} {Minimum}");
        return double.IsPositiveInfinity(Maximum)
            ? low
            : FormattableString.Invariant($"{low} and {(BelowMaximum ? "below" : "at most")} {Maximum}");
    }
}
