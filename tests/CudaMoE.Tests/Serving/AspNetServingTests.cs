using System.Diagnostics;
using System.Net;
using System.Net.Http.Json;
using System.Text.Json;
using CudaMoE.Tests.Repository;
using CudaMoE.Tests.Support;
using CudaMoE.Tests.Training;
using CudaMoE.Training;

namespace CudaMoE.Tests.Serving;

/// <summary>The sample serves a trained model over HTTP.</summary>
public sealed class AspNetServingTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [DeviceData]
    public async Task Sample_ServesPredictions_AndRefusesBadRows(string device)
    {
        TrainingFixture.WriteData(_folder.Root, rows: 300);
        string run = Trainer.Train(TrainingFixture.Describe(TrainingFixture.Training(device)), _folder.Root, TrainingFixture.Options(_folder.Root, device)).RunFolder;
        using Process process = Start(run, device);
        try
        {
            using HttpClient client = new() { BaseAddress = await ListeningAddress(process), Timeout = TimeSpan.FromMinutes(1) };

            Assert.Equal("Healthy", await client.GetStringAsync("health"));
            JsonElement columns = await client.GetFromJsonAsync<JsonElement>("columns");
            Assert.Equal(["user", "tags", "age"], columns.GetProperty("columns").EnumerateArray().Select(column => column.GetString()));

            HttpResponseMessage answer = await client.PostAsJsonAsync("predict", new { rows = new object[] { new { user = "u3", tags = new[] { "t1", "t2" }, age = 44.5 }, new { user = "new", tags = Array.Empty<string>(), age = (double?)null } } });
            Assert.Equal(HttpStatusCode.OK, answer.StatusCode);
            JsonElement predictions = await answer.Content.ReadFromJsonAsync<JsonElement>();
            Assert.Equal(2, predictions.GetArrayLength());
            Assert.InRange(predictions[0].GetProperty("click").GetSingle(), 0, 1);
            Assert.True(predictions[0].TryGetProperty("watch", out _));

            HttpResponseMessage refused = await client.PostAsJsonAsync("predict", new { rows = new object[] { new { user = "u3" } } });
            Assert.Equal(HttpStatusCode.BadRequest, refused.StatusCode);
            foreach (string body in new[] { "{}", "{\"rows\": null}", "{\"rows\": [{\"user\": \"\\ud800\"}]}" })
                Assert.Equal(HttpStatusCode.BadRequest, (await client.PostAsync("predict", new StringContent(body, System.Text.Encoding.UTF8, "application/json"))).StatusCode);
            Assert.Contains("the row has no value for", (await refused.Content.ReadFromJsonAsync<JsonElement>()).GetProperty("detail").GetString()!, StringComparison.Ordinal);
        }
        finally
        {
            process.Kill();
            await process.WaitForExitAsync();
        }
    }

    [SimtFact]
    public async Task Sample_DeviceFails_IsUnhealthyAndSaysWhy()
    {
        const string reason = "failed as the option fault asked for";
        TrainingFixture.WriteData(_folder.Root, rows: 300);
        string run = Trainer.Train(TrainingFixture.Describe(TrainingFixture.Training(TestDevices.Default)), _folder.Root, TrainingFixture.Options(_folder.Root, TestDevices.Default)).RunFolder;
        using Process process = Start(run, "simt:fault=20");
        try
        {
            using HttpClient client = new() { BaseAddress = await ListeningAddress(process), Timeout = TimeSpan.FromMinutes(1) };
            Assert.Equal("Healthy", await client.GetStringAsync("health"));
            HttpResponseMessage answer;
            int asked = 0;
            do
                answer = await client.PostAsJsonAsync("predict", new { rows = new object[] { new { user = "u3", tags = new[] { "t1" }, age = 44.5 } } });
            while (answer.StatusCode == HttpStatusCode.OK && ++asked < 100);

            Assert.Equal(HttpStatusCode.ServiceUnavailable, answer.StatusCode);
            Assert.Contains(reason, (await answer.Content.ReadFromJsonAsync<JsonElement>()).GetProperty("detail").GetString()!, StringComparison.Ordinal);
            HttpResponseMessage health = await client.GetAsync("health");
            Assert.Equal(HttpStatusCode.ServiceUnavailable, health.StatusCode);
            string text = await health.Content.ReadAsStringAsync();
            Assert.StartsWith("the device simt:fault=20 failed: ", text, StringComparison.Ordinal);
            Assert.Contains(reason, text, StringComparison.Ordinal);
        }
        finally
        {
            process.Kill();
            await process.WaitForExitAsync();
        }
    }

    private static Process Start(string run, string device)
    {
        string configuration = new DirectoryInfo(AppContext.BaseDirectory).Parent!.Name;
        string program = Path.Combine(SourceTree.Root, "samples/AspNetServing/bin", configuration, "net10.0/AspNetServing.dll");
        Assert.True(File.Exists(program), program + " was not built; build the whole solution");
        return Process.Start(new ProcessStartInfo("dotnet", [program, run, "--device", device, "--urls", "http://127.0.0.1:0"]) { RedirectStandardOutput = true })!;
    }

    private static async Task<Uri> ListeningAddress(Process process)
    {
        const string Marker = "Now listening on: ";
        using CancellationTokenSource limit = new(TimeSpan.FromMinutes(2));
        while (await process.StandardOutput.ReadLineAsync(limit.Token) is { } line)
        {
            if (line.IndexOf(Marker, StringComparison.Ordinal) is var at and >= 0)
                return new(line[(at + Marker.Length)..]);
        }

        throw new InvalidOperationException("the sample ended before it listened");
    }
}
