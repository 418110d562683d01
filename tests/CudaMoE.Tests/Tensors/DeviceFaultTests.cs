using System.Diagnostics;
using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Models;
using CudaMoE.Tensors;
using CudaMoE.Tests.Models;
using CudaMoE.Tests.Support;
using CudaMoE.Training;

namespace CudaMoE.Tests.Tensors;

/// <summary>What can go wrong with a device: an error of its own type each time, and the process goes on.</summary>
public sealed class DeviceFaultTests
{
    [SimtFact]
    public void Open_WrongOptionOfTheExecutor_SaysWhatIsWrong() => Open_WrongName_SaysWhatIsWrong("simt:speed=fast", "speed=fast");

    [Theory]
    [InlineData("cpu:threads=0", "threads")]
    [InlineData("tpu", "\"tpu\"")]
    public void Open_WrongName_SaysWhatIsWrong(string name, string words) =>
        Assert.Contains(words, Assert.Throws<NativeArgumentException>(() => Device.Open(name)).Message, StringComparison.Ordinal);

    [Fact]
    public void Open_BackendThatIsNotUsable_SaysWhy()
    {
        foreach (BackendStatus backend in BackendReport.Query().Backends.Where(b => !b.Usable))
            Assert.Contains(backend.Reason, Assert.Throws<DeviceException>(() => Device.Open(backend.Name)).Message, StringComparison.Ordinal);
    }

    [SimtFact]
    public void Allocate_MoreThanTheDeviceHas_FailsAndTheDeviceGoesOn()
    {
        using Device device = Device.Open("simt:memory=1000000");
        Assert.Equal(1_000_000, device.Info.MemoryBytes);
        using DeviceBuffer first = device.Allocate(600_000);
        Assert.Contains("500000", Assert.Throws<DeviceOutOfMemoryException>(() => device.Allocate(500_000)).Message, StringComparison.Ordinal);
        Assert.False(device.QueryInfo().Faulted);
        using DeviceBuffer second = device.Allocate(300_000);
        Assert.Equal(2, device.QueryInfo().LiveAllocations);
    }

    [SimtFact]
    public void NewModel_MoreThanTheDeviceHas_FreesWhatItHad()
    {
        // Whatever the allocation that fails: the limit goes from next to nothing to what is enough.
        long memory = 5_000;
        for (bool built = false; !built; memory += memory / 4)
        {
            using Device device = Device.Open($"simt:memory={memory}");
            try
            {
                using MultiTaskModel model = NewModel(device);
                built = true;
            }
            catch (DeviceOutOfMemoryException)
            {
                Assert.Equal(0, device.QueryInfo().LiveAllocations);
            }
        }

        Assert.InRange(memory, 20_000, 10_000_000);
    }

    [SimtTheory]
    [InlineData(1)]
    [InlineData(25)]
    [InlineData(60)]
    public void KernelFails_EveryLaterCallFailsAndTheProcessGoesOn(int launch)
    {
        const string reason = "failed as the option fault asked for";
        using (Device device = Device.Open($"simt:fault={launch}"))
        using (MultiTaskModel model = NewModel(device))
        using (Batch batch = TestModels.RandomBatch(TestModels.Layout, TestModels.BinaryTasks, 20, new Random(3)))
        {
            TrainingStep step = new(model, 100);
            Assert.False(device.QueryInfo().Faulted);
            DeviceException error = Assert.Throws<DeviceException>(() =>
            {
                for (int i = 1; i <= 100; i++)
                    step.Run(batch, i);
            });
            Assert.Contains(reason, error.Message, StringComparison.Ordinal);
            Assert.True(device.QueryInfo().Faulted);
            Assert.Contains(reason, Assert.Throws<DeviceException>(() => model.Forward(batch)).Message, StringComparison.Ordinal);
            Assert.Contains(reason, Assert.Throws<DeviceException>(step.Finish).Message, StringComparison.Ordinal);
            Assert.Contains(reason, Assert.Throws<DeviceException>(() => TestDevices.Read(model, model.Parameters[0])).Message, StringComparison.Ordinal);
            Assert.Contains(reason, Assert.Throws<DeviceException>(() => device.Allocate(1)).Message, StringComparison.Ordinal);
        }

        using Device next = Device.Open(TestDevices.Simt);
        using MultiTaskModel works = NewModel(next);
        using Batch samples = TestModels.RandomBatch(TestModels.Layout, TestModels.BinaryTasks, 5, new Random(3));
        works.Forward(samples);
        Assert.All(Enumerable.Range(0, 3), task => Assert.All(TestDevices.Read(works, works.Logits(task)), value => Assert.True(float.IsFinite(value))));
    }

    [SimtFact]
    public void HostReadsDeviceMemory_TheExecutorStopsTheProcessAndSaysWhy()
    {
        using Process child = ChildProcess.StartWithErrors("host-access");
        string errors = child.StandardError.ReadToEnd();
        string written = child.StandardOutput.ReadToEnd();
        child.WaitForExit();
        Assert.NotEqual(0, child.ExitCode);
        Assert.Equal("about to read", written.Trim());
        Assert.Contains("host code touched device memory", errors, StringComparison.Ordinal);
    }

    /// <summary>The child of <see cref="HostReadsDeviceMemory_TheExecutorStopsTheProcessAndSaysWhy"/>.</summary>
    internal static unsafe int RunChild()
    {
        using Device device = Device.Open(TestDevices.Simt);
        using DeviceStream stream = device.CreateStream();
        using DeviceBuffer buffer = device.Allocate(64);
        stream.CopyToDevice<int>([1, 2, 3], buffer.Pointer);
        stream.Synchronize();
        Console.WriteLine("about to read");
        Console.WriteLine(*(int*)buffer.Pointer);
        return 0;
    }

    private static MultiTaskModel NewModel(Device device)
    {
        ArchitectureDescription architecture = new() { Type = ModelType.Mmoe, Experts = new() { Count = 3, Layers = [8] }, Tower = [4] };
        return new(device, TestModels.Describe(architecture, TestModels.BinaryTasks), TestModels.Layout, [1, 1, 1], maxRows: 32, training: true);
    }
}
