using System.Diagnostics;
using System.Text;
using CudaMoE.Checkpoints;
using CudaMoE.Tests.Support;

namespace CudaMoE.Tests.Checkpoints;

/// <summary>Moves that another program's hold on a file prevents for a while, as on Windows.</summary>
public sealed class FileNamesTests : IDisposable
{
    private const int SharingViolation = unchecked((int)0x80070020);

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void HeldForAMoment_IsTriedAgain()
    {
        int calls = 0;

        FileNames.WhileHeld(() =>
        {
            if (++calls < 3)
                throw new IOException("held", SharingViolation);
        });

        Assert.Equal(3, calls);
    }

    [Fact]
    public void HeldForGood_IsAnErrorAfterAWhile()
    {
        Stopwatch watch = Stopwatch.StartNew();

        IOException error = Assert.Throws<IOException>(() => FileNames.WhileHeld(() => throw new IOException("held", SharingViolation)));

        Assert.Equal("held", error.Message);
        Assert.True(watch.Elapsed > FileNames.Patience - TimeSpan.FromMilliseconds(100), $"gave up after {watch.Elapsed}");
    }

    [Fact]
    public void ATargetThatCannotBeReplaced_IsNamed()
    {
        File.WriteAllText(_folder["new"], "new");
        Directory.CreateDirectory(_folder["target"]);

        Exception error = Record.Exception(() => FileNames.MoveFile(_folder["new"], _folder["target"]));

        Assert.IsAssignableFrom<IOException>(error);
        Assert.True(File.Exists(_folder["new"]));
        if (OperatingSystem.IsWindows())
            Assert.StartsWith($"{_folder["target"]} cannot be written", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AnotherError_IsNotTriedAgain()
    {
        int calls = 0;

        Assert.Throws<FileNotFoundException>(() => FileNames.WhileHeld(() =>
        {
            calls++;
            throw new FileNotFoundException();
        }));

        Assert.Equal(1, calls);
    }

    [Fact]
    public void AFileThatAReaderHolds_IsReplacedWhenTheReaderIsDone()
    {
        string path = _folder["latest"];
        File.WriteAllText(path, "old");
        using ManualResetEventSlim held = new();
        Thread reader = new(() =>
        {
            using FileStream stream = new(path, FileMode.Open, FileAccess.Read, FileShare.Read);
            held.Set();
            Thread.Sleep(200);
        });
        reader.Start();
        held.Wait();

        AtomicFile.Write(path, Encoding.UTF8.GetBytes("new"));

        Assert.Equal("new", File.ReadAllText(path));
        reader.Join();
    }
}
