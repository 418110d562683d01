using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Schema;
using System.Text.Json.Serialization.Metadata;
using System.Xml.Linq;

namespace CudaMoE.Description;

/// <summary>The JSON schemas of model and stream files, for editors and other tools.</summary>
public static class DescriptionSchema
{
    private const string ResourceName = "model.schema.json";
    private const string StreamResourceName = "stream.schema.json";

    private static readonly JsonSerializerOptions Indented = new() { WriteIndented = true, NewLine = "\n", Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>The published schema of model files, with descriptions, as it is in <c>docs/model.schema.json</c>.</summary>
    public static string Published => Resource(ResourceName);

    /// <summary>The published schema of stream files, with descriptions, as it is in <c>docs/stream.schema.json</c>.</summary>
    public static string PublishedStream => Resource(StreamResourceName);

    /// <summary>Makes the schema of model files from the types: names, enumerations, required keys, ranges, defaults; no other keys allowed.</summary>
    /// <param name="documentation">The library's XML documentation file, whose summaries become descriptions; null for none.</param>
    public static string Export(XDocument? documentation = null) => Export(DescriptionContext.Default.ModelDescription, "CudaMoE model description", documentation);

    /// <summary>Makes the schema of stream files in the same way.</summary>
    /// <param name="documentation">The library's XML documentation file; null for none.</param>
    public static string ExportStream(XDocument? documentation = null) => Export(DescriptionContext.Default.StreamDescription, "CudaMoE stream description", documentation);

    private static string Resource(string name)
    {
        using Stream stream = typeof(DescriptionSchema).Assembly.GetManifestResourceStream(name)
            ?? throw new InvalidOperationException($"{name} is not embedded in this assembly");
        using StreamReader reader = new(stream, Encoding.UTF8);
        return reader.ReadToEnd();
    }

    private static string Export(JsonTypeInfo type, string title, XDocument? documentation)
    {
        Dictionary<string, string> summaries = documentation is null ? [] : Summaries(documentation);
        JsonSchemaExporterOptions options = new()
        {
            TreatNullObliviousAsNonNullable = true,
            TransformSchemaNode = (context, schema) => Complete(context, schema, summaries),
        };
        JsonObject root = type.GetJsonSchemaAsNode(options).AsObject();
        root["properties"]!.AsObject().Insert(0, "$schema", new JsonObject { ["type"] = "string" });
        root.Insert(0, "$schema", "https://json-schema.org/draft/2020-12/schema");
        root.Insert(1, "title", title);
        return root.ToJsonString(Indented) + "\n";
    }

    private static JsonNode Complete(JsonSchemaExporterContext context, JsonNode schema, Dictionary<string, string> summaries)
    {
        if (schema is not JsonObject node)
            return schema;
        if (context.TypeInfo.Kind == JsonTypeInfoKind.Object)
            node["additionalProperties"] = false;
        if (context.PropertyInfo is not { } property)
        {
            Describe(node, summaries, "T:" + context.TypeInfo.Type.FullName);
            return node;
        }

        Describe(node, summaries, $"P:{property.DeclaringType.FullName}.{MemberName(property)}");
        if (property.AttributeProvider?.GetCustomAttributes(typeof(NumberRangeAttribute), inherit: false) is [NumberRangeAttribute range])
            AddRange(Innermost(node), range);
        if (!property.IsRequired)
        {
            JsonTypeInfo owner = DescriptionContext.Contract(property.DeclaringType);
            object? value = DescriptionContext.DefaultOf(owner, property);
            if (value is string || value?.GetType().IsValueType == true)
                node["default"] = JsonSerializer.SerializeToNode(value, DescriptionContext.Contract(property.PropertyType));
        }

        return node;
    }

    /// <summary>What a list of lists holds in the end.</summary>
    private static JsonObject Innermost(JsonObject node)
    {
        while (node["items"] is JsonObject items)
            node = items;
        return node;
    }

    private static void AddRange(JsonObject node, NumberRangeAttribute range)
    {
        node[range.AboveMinimum ? "exclusiveMinimum" : "minimum"] = range.Minimum;
        if (double.IsFinite(range.Maximum))
            node[range.BelowMaximum ? "exclusiveMaximum" : "maximum"] = range.Maximum;
    }

    private static void Describe(JsonObject node, Dictionary<string, string> summaries, string member)
    {
        if (!summaries.TryGetValue(member, out string? summary))
            return;
        node.Remove("description");
        node.Insert(0, "description", summary);
    }

    private static string MemberName(JsonPropertyInfo property) =>
        (property.AttributeProvider as System.Reflection.MemberInfo)?.Name ?? property.Name;

    /// <summary>Summaries by member, as plain text on one line.</summary>
    private static Dictionary<string, string> Summaries(XDocument documentation)
    {
        Dictionary<string, string> summaries = new(StringComparer.Ordinal);
        foreach (XElement member in documentation.Descendants("member"))
        {
            if (member.Attribute("name")?.Value is { } name && member.Element("summary") is { } summary)
                summaries[name] = string.Join(' ', Text(summary).Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries));
        }

        return summaries;
    }

    private static string Text(XElement element) => string.Concat(element.Nodes().Select(node => node switch
    {
        XText text => text.Value,
        XElement { Name.LocalName: "see" } reference => SnakeName(reference.Attribute("cref")?.Value ?? ""),
        XElement inner => Text(inner),
        _ => "",
    }));

    /// <summary>The key that a reference such as "P:CudaMoE.Description.FileFormat.Columns" means to a reader of JSON.</summary>
    private static string SnakeName(string reference) => JsonNamingPolicy.SnakeCaseLower.ConvertName(reference[(reference.LastIndexOf('.') + 1)..]);
}
