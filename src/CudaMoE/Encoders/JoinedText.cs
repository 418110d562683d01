using System.Text;
using CudaMoE.Data;

namespace CudaMoE.Encoders;

/// <summary>The text of a row that lies in several columns.</summary>
internal static class JoinedText
{
    /// <summary>The fields of the current row that are not missing, joined by blanks; null when there is nothing but white space.</summary>
    /// <param name="reader">The table.</param>
    /// <param name="columns">Places of the columns.</param>
    /// <param name="buffer">Is overwritten.</param>
    public static string? Read(DelimitedReader reader, ReadOnlySpan<int> columns, StringBuilder buffer)
    {
        buffer.Clear();
        foreach (int column in columns)
        {
            if (!reader.IsMissing(reader.Field(column)))
                buffer.Append(buffer.Length > 0 ? " " : "").Append(Encoding.UTF8.GetString(reader.Field(column)));
        }

        string text = buffer.ToString();
        return string.IsNullOrWhiteSpace(text) ? null : text;
    }
}
