using System.Globalization;
using System.Net;
using System.Text;

namespace CudaMoE.Training;

/// <summary>HTML that is being written. What comes from the run goes through <see cref="Text"/>, which escapes it.</summary>
internal sealed class HtmlText
{
    private readonly StringBuilder _html = new();

    /// <summary>Adds markup as it is.</summary>
    public HtmlText Raw(string markup)
    {
        _html.Append(markup);
        return this;
    }

    /// <summary>Adds text, escaped for content and for quoted attributes.</summary>
    public HtmlText Text(string text)
    {
        _html.Append(WebUtility.HtmlEncode(text));
        return this;
    }

    /// <summary>A whole number with thin spaces between thousands.</summary>
    public static string Count(long value) => value.ToString("#,0", ThinSpaces);

    /// <summary>A number for reading: four decimals in the range of metrics, else four digits.</summary>
    public static string Number(double value)
    {
        double size = Math.Abs(value);
        return double.IsFinite(value) && (size == 0 || size is >= 1e-3 and < 1e3)
            ? value.ToString("0.0000", CultureInfo.InvariantCulture)
            : value.ToString("G4", CultureInfo.InvariantCulture);
    }

    /// <summary>A metric's name for reading: "auc" is "AUC", "log_loss" is "log loss".</summary>
    public static string MetricLabel(string name) => name.Length <= 4 ? name.ToUpperInvariant() : name.Replace('_', ' ');

    /// <summary>A duration, e.g. "1 h 02 min", "2 min 05 s", "3.2 s".</summary>
    public static string Duration(double seconds)
    {
        if (seconds < 60)
            return seconds.ToString("0.0", CultureInfo.InvariantCulture) + " s";
        long whole = (long)Math.Round(seconds);
        return whole < 3600 ? $"{whole / 60} min {whole % 60:00} s" : $"{whole / 3600} h {whole % 3600 / 60:00} min";
    }

    /// <inheritdoc/>
    public override string ToString() => _html.ToString();

    private static readonly NumberFormatInfo ThinSpaces = new() { NumberGroupSeparator = "\u202f" };
}
