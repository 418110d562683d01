using System.Globalization;
using System.Reflection;
using Spectre.Console;

namespace CudaMoE.Cli.Rendering;

/// <summary>Numbers, durations and tables as the tool writes them.</summary>
internal static class Texts
{
    /// <summary>Version of the tool, without the build's suffix.</summary>
    public static string Version { get; } =
        typeof(Texts).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion.Split('+')[0] ?? "unknown";

    /// <summary>A path as it is typed on a command line: between quotation marks when it holds a blank.</summary>
    public static string Argument(string path) => path.Contains(' ', StringComparison.Ordinal) ? $"\"{path}\"" : path;

    /// <summary>A whole number with blanks between thousands: "1 234 567".</summary>
    public static string Count(long value) => value.ToString("#,0", Blanks);

    /// <summary>A size: "1.5 GiB".</summary>
    public static string Bytes(long bytes)
    {
        string[] units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
        double value = bytes;
        int unit = 0;
        for (; Math.Abs(value) >= 1024 && unit < units.Length - 1; unit++)
            value /= 1024;
        return unit == 0 ? $"{bytes} B" : string.Create(CultureInfo.InvariantCulture, $"{value:0.0} {units[unit]}");
    }

    /// <summary>A number with four digits behind the point, or four in all when it is very large or small.</summary>
    public static string Number(double value)
    {
        double size = Math.Abs(value);
        return !double.IsFinite(value) || size is > 0 and (< 1e-3 or >= 1e4)
            ? value.ToString("G4", CultureInfo.InvariantCulture)
            : value.ToString("0.0000", CultureInfo.InvariantCulture);
    }

    /// <summary>A duration: "3.2 s", "2 min 05 s", "1 h 02 min".</summary>
    public static string Duration(TimeSpan time)
    {
        if (time < TimeSpan.FromSeconds(60))
            return time.TotalSeconds.ToString("0.0", CultureInfo.InvariantCulture) + " s";
        long seconds = (long)Math.Round(time.TotalSeconds);
        return seconds < 3600 ? $"{seconds / 60} min {seconds % 60:00} s" : $"{seconds / 3600} h {seconds % 3600 / 60:00} min";
    }

    /// <summary>A table with the tool's border; columns whose title begins with '#' hold numbers.</summary>
    public static Table NewTable(params string[] columns)
    {
        Table table = new() { Border = TableBorder.Simple, UseSafeBorder = true };
        foreach (string column in columns)
        {
            bool number = column.StartsWith('#');
            TableColumn added = new(new Text(number ? column[1..] : column, new Style(decoration: Decoration.Bold))) { Alignment = number ? Justify.Right : Justify.Left };
            table.AddColumn(added);
        }

        return table;
    }

    /// <summary>Adds a row of plain texts; missing cells stay empty.</summary>
    public static void AddTexts(this Table table, params string[] cells) => table.AddRow(cells.Select(cell => new Text(cell)));

    private static readonly NumberFormatInfo Blanks = new() { NumberGroupSeparator = " " };
}
