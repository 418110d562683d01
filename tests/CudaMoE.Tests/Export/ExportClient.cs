using System.Globalization;
using System.Text;
using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Export;

namespace CudaMoE.Tests.Export;

/// <summary>What a client does with texts before it calls an exported model, by the schema and by the rules of docs/export.md alone.</summary>
internal static class ExportClient
{
    /// <summary>The inputs for rows of a file whose first line names the columns.</summary>
    /// <param name="schema">The schema.</param>
    /// <param name="rows">Lines, the first with the columns.</param>
    /// <param name="extraPlaces">Places without a value that multi-hot inputs get beside those they need.</param>
    public static Dictionary<string, OnnxArray> Inputs(ExportSchema schema, string[][] rows, int extraPlaces)
    {
        Dictionary<string, OnnxArray> inputs = [];
        foreach (ExportInput input in schema.Inputs)
        {
            int column = Array.IndexOf(rows[0], input.Column);
            inputs.Add(input.Name, Input(schema, input, [.. rows.Skip(1).Select(row => row[column])], extraPlaces));
        }

        return inputs;
    }

    private static OnnxArray Input(ExportSchema schema, ExportInput input, string[] fields, int extraPlaces)
    {
        string[][] values = [.. fields.Select(field => Values(schema, input, field))];
        int width = (int)input.Shape[1];
        if (width < 0)
            width = values.Max(v => v.Length) + extraPlaces;
        int[] shape = [fields.Length, width];
        IEnumerable<string?> places = values.SelectMany(v => v.Select(x => (string?)x).Concat(Enumerable.Repeat((string?)null, width - v.Length)));
        return input.Type switch
        {
            "string" => new(OnnxType.String, shape, [], [.. places.Select(text => text ?? "")]),
            "double" => new(OnnxType.Double, shape, [.. places.Select(text => text is null ? double.NaN : Number(text))]),
            "float" => new(OnnxType.Float, shape, [.. places.Select(text => text is null ? 0 : (float)Number(text))]),
            _ => new(OnnxType.Int64, shape, [.. places.Select(text => text is null ? Absent(input) : Id(schema, input, text))]),
        };
    }

    private static double Absent(ExportInput input) => double.Parse(input.Absent, CultureInfo.InvariantCulture);

    /// <summary>The values of a field that are known; none of a missing one.</summary>
    private static string[] Values(ExportSchema schema, ExportInput input, string field)
    {
        field = Trimmed(schema, field);
        if (schema.Missing.Contains(field))
            return [];
        if (input.Separator is null)
            return [field];
        string[] values = [.. field.Split(input.Separator).Select(value => Trimmed(schema, value))];
        if (input.Feature == FeatureType.Vector)
            return values;
        values = [.. values.Where(value => !schema.Missing.Contains(value))];
        int most = input.MaxLength!.Value;
        return input.Keep == SequenceEnd.Last ? [.. values.TakeLast(most)] : [.. values.Take(most)];
    }

    private static double Id(ExportSchema schema, ExportInput input, string text)
    {
        ExportTable table = schema.Tables.Single(table => table.Name == input.Table);
        return input.Encoding switch
        {
            CategoryEncoding.Vocabulary => Array.IndexOf([.. table.Vocabulary!], text) + 1,
            CategoryEncoding.Hash => 1 + (XxHash64.Hash(Encoding.UTF8.GetBytes(text)) % (ulong)(table.Rows - 1)),
            // A number may go in as it is: the model turns what is not a row into the unknown value. Below 0 it would be an empty place.
            _ => long.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out long id) ? Math.Max(id, 0) : 0,
        };
    }

    private static double Number(string text) => double.Parse(text, CultureInfo.InvariantCulture);

    private static string Trimmed(ExportSchema schema, string text) => schema.Trim ? text.Trim(' ', '\t') : text;
}
