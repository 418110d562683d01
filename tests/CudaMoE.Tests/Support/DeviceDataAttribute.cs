using System.Reflection;
using Xunit.Sdk;

namespace CudaMoE.Tests.Support;

/// <summary>Rows of a theory whose first argument is a device: one on each of <see cref="TestDevices.Names"/>, with these arguments behind it.</summary>
[AttributeUsage(AttributeTargets.Method, AllowMultiple = true)]
internal sealed class DeviceDataAttribute(params object?[] arguments) : DataAttribute
{
    public override IEnumerable<object?[]> GetData(MethodInfo testMethod) => TestDevices.Names.Select(device => (object?[])[device, .. arguments]);
}

/// <summary>As <see cref="DeviceDataAttribute"/>, with each row of a member behind the device.</summary>
[AttributeUsage(AttributeTargets.Method, AllowMultiple = true)]
internal sealed class DeviceMemberDataAttribute(string memberName) : MemberDataAttributeBase(memberName, [])
{
    public override IEnumerable<object[]> GetData(MethodInfo testMethod)
    {
        object[][] rows = [.. base.GetData(testMethod)];
        return TestDevices.Names.SelectMany(device => rows.Select(row => (object[])[device, .. row]));
    }

    protected override object[] ConvertDataItem(MethodInfo testMethod, object item) => (object[])item;
}
