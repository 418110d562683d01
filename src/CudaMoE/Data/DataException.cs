namespace CudaMoE.Data;

/// <summary>
/// A data file cannot be read or breaks a rule. The message names the file and, where they are known, the line, the column, the value
/// and the rule.
/// </summary>
public sealed class DataException : CudaMoEException
{
    /// <summary>Creates it with a finished message.</summary>
    public DataException(string message)
        : base(message)
    {
    }

    /// <summary>Creates it with a finished message and the cause.</summary>
    public DataException(string message, Exception innerException)
        : base(message, innerException)
    {
    }

    /// <summary>Creates it for a place in a file; the message is made from the parts.</summary>
    /// <param name="rule">What is wrong and what would be right, as the rest of a sentence.</param>
    /// <param name="file">The file.</param>
    /// <param name="line">The line, from 1; 0 = none.</param>
    /// <param name="column">The column's name; null = none.</param>
    /// <param name="innerException">The cause; may be null.</param>
    public DataException(string rule, string file, long line = 0, string? column = null, Exception? innerException = null)
        : base(Compose(rule, file, line, column), innerException!)
    {
        File = file;
        Line = line;
        Column = column;
    }

    /// <summary>The file; null when the error is not about one.</summary>
    public string? File { get; }

    /// <summary>The line, from 1; 0 when the error is not about one.</summary>
    public long Line { get; }

    /// <summary>The column's name; null when the error is not about one.</summary>
    public string? Column { get; }

    private static string Compose(string rule, string file, long line, string? column)
    {
        string place = file;
        if (line > 0)
            place += $", line {line}";
        if (column is not null)
            place += $", column \"{column}\"";
        return $"{place}: {rule}";
    }
}
