namespace CudaMoE.Data;

/// <summary>Where a row's fields come from: the current row of a file, or one that a program has filled.</summary>
internal interface IFieldSource
{
    /// <summary>The place of a column.</summary>
    /// <param name="column">Its name.</param>
    /// <param name="purpose">Who asks, for the message: "feature \"age\"".</param>
    /// <exception cref="DataException">There is no such column.</exception>
    int IndexOf(string column, string purpose);

    /// <summary>A field: UTF-8, trimmed, unquoted.</summary>
    ReadOnlySpan<byte> Field(int column);

    /// <summary>Whether a text means "not known".</summary>
    bool IsMissing(ReadOnlySpan<byte> text);

    /// <summary>The number in a field.</summary>
    /// <exception cref="DataException">It is not a finite number.</exception>
    double Number(int column, string rule);

    /// <summary>An error about a field.</summary>
    DataException Error(int column, string rule);
}
