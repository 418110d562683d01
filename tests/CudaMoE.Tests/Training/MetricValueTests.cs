using System.Globalization;
using CudaMoE.Training;

namespace CudaMoE.Tests.Training;

public sealed class MetricValueTests
{
    [Fact]
    public void ToString_SaysTheValueOrWhyThereIsNone()
    {
        CultureInfo before = CultureInfo.CurrentCulture;
        try
        {
            CultureInfo comma = (CultureInfo)CultureInfo.InvariantCulture.Clone();
            comma.NumberFormat.NumberDecimalSeparator = ",";
            CultureInfo.CurrentCulture = comma;
            Assert.Equal("auc 0.9501", MetricValue.Of("auc", 0.95012).ToString());
            Assert.Equal("gauc undefined (no user has both labels)", MetricValue.NotDefined("gauc", "no user has both labels").ToString());
            Assert.Equal("ne undefined (the value is not finite)", MetricValue.Of("ne", double.NaN).ToString());
        }
        finally
        {
            CultureInfo.CurrentCulture = before;
        }
    }
}
