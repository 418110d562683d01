using System.Text;
using System.Text.Json;

namespace CudaMoE.Description;

/// <summary>A JSON value that knows the line it came from.</summary>
/// <param name="Kind">What it is.</param>
/// <param name="Line">Its line, from 1.</param>
/// <param name="Text">The text of a string, the digits of a number; otherwise empty.</param>
/// <param name="Members">The members of an object in their order, duplicates included.</param>
/// <param name="Items">The items of an array.</param>
internal sealed record LocatedValue(
    JsonValueKind Kind, int Line, string Text, IReadOnlyList<LocatedMember> Members, IReadOnlyList<LocatedValue> Items)
{
    /// <summary>How the value reads in a message, cut when it is long.</summary>
    public string Shown => Kind switch
    {
        JsonValueKind.String => $"\"{Cut(Text)}\"",
        JsonValueKind.Number => Cut(Text),
        JsonValueKind.True => "true",
        JsonValueKind.False => "false",
        JsonValueKind.Null => "null",
        JsonValueKind.Object => "an object",
        _ => "a list",
    };

    /// <summary>A text of a message, cut when it is long.</summary>
    public static string Cut(string text) => text.Length <= 60 ? text : text[..60] + "...";
}

/// <summary>A member of an object.</summary>
/// <param name="Name">Its key.</param>
/// <param name="Line">The key's line, from 1.</param>
/// <param name="Value">Its value.</param>
internal sealed record LocatedMember(string Name, int Line, LocatedValue Value);

/// <summary>Parses JSON text with comments and trailing commas into values that know their lines.</summary>
internal ref struct LocatedJson
{
    private const int MaxDepth = 32;

    private readonly ReadOnlySpan<byte> _text;
    private Utf8JsonReader _reader;
    private int _line = 1;
    private int _counted;

    private LocatedJson(ReadOnlySpan<byte> text)
    {
        _text = text;
        _reader = new(text, new JsonReaderOptions { CommentHandling = JsonCommentHandling.Skip, AllowTrailingCommas = true, MaxDepth = MaxDepth });
    }

    /// <summary>Parses a whole text.</summary>
    /// <exception cref="DescriptionException">It is not JSON; the message has the line.</exception>
    public static LocatedValue Parse(string text)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(text.TrimStart('\uFEFF'));
        LocatedJson json = new(bytes);
        try
        {
            json._reader.Read();
            LocatedValue value = json.ReadValue();
            json._reader.Read();
            return value;
        }
        catch (JsonException error)
        {
            int line = (int)Math.Min(error.LineNumber ?? 0, int.MaxValue - 1) + 1;
            throw new DescriptionException($"line {line}: not valid JSON: {Reason(error)}", null, line, error);
        }
        catch (InvalidOperationException error)
        {
            // Half a surrogate pair written as an escape.
            throw new DescriptionException($"line {json.Line()}: not valid JSON: {error.Message}", null, json.Line(), error);
        }
    }

    private static string Reason(JsonException error)
    {
        int position = error.Message.IndexOf(" LineNumber:", StringComparison.Ordinal);
        return position < 0 ? error.Message : error.Message[..position];
    }

    private int Line()
    {
        int start = (int)_reader.TokenStartIndex;
        _line += _text[_counted..start].Count((byte)'\n');
        _counted = start;
        return _line;
    }

    private LocatedValue ReadValue()
    {
        int line = Line();
        switch (_reader.TokenType)
        {
            case JsonTokenType.StartObject:
                List<LocatedMember> members = [];
                while (_reader.Read() && _reader.TokenType != JsonTokenType.EndObject)
                {
                    string name = _reader.GetString()!;
                    int nameLine = Line();
                    _reader.Read();
                    members.Add(new(name, nameLine, ReadValue()));
                }

                return new(JsonValueKind.Object, line, "", members, []);
            case JsonTokenType.StartArray:
                List<LocatedValue> items = [];
                while (_reader.Read() && _reader.TokenType != JsonTokenType.EndArray)
                    items.Add(ReadValue());
                return new(JsonValueKind.Array, line, "", [], items);
            case JsonTokenType.String:
                return new(JsonValueKind.String, line, _reader.GetString()!, [], []);
            case JsonTokenType.Number:
                return new(JsonValueKind.Number, line, Encoding.UTF8.GetString(_reader.ValueSpan), [], []);
            case JsonTokenType.True:
                return new(JsonValueKind.True, line, "", [], []);
            case JsonTokenType.False:
                return new(JsonValueKind.False, line, "", [], []);
            default:
                return new(JsonValueKind.Null, line, "", [], []);
        }
    }
}
