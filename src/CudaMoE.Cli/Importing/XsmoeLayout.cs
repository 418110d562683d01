using CudaMoE.Checkpoints;
using CudaMoE.Description;
using CudaMoE.Streaming;

namespace CudaMoE.Cli.Importing;

/// <summary>
/// Names and shapes of the code of XSMoE's authors (class ModelMM with XSMoEMMEncoder and UserEncoder): ladders <c>cv_encoder</c> and <c>text_encoder</c>, in this order,
/// are the first and the second modality of the stream.
/// </summary>
internal sealed class XsmoeLayout : ImportLayout
{
    private const string Encoder = "multimodal_encoder";
    private const string User = "user_encoder.encoder";
    private static readonly string[] Ladders = ["cv_encoder", "text_encoder"];
    private static readonly string[] Products = ["w_Q", "w_K", "w_V"];
    private readonly XsmoeDescription _model;
    private readonly string[] _modalities;

    /// <param name="description">The stream that the tensors are for.</param>
    /// <exception cref="UsageException">The authors' code has no such model.</exception>
    public XsmoeLayout(StreamDescription description)
    {
        _model = description.Model;
        _modalities = [.. description.Modalities.Select(modality => modality.Name)];
        if (_modalities.Length != Ladders.Length)
            throw new UsageException($"the stream has {_modalities.Length} modalities; the layout xsmoe has two, the pictures' first and then the texts'");
    }

    /// <summary>The ladders as the file has them.</summary>
    /// <exception cref="CheckpointFormatException">A router is missing or no matrix.</exception>
    public IReadOnlyList<ProbedSide> Sides(SafetensorsHeader file, string prefix) =>
    [
        .. Ladders.Select(ladder =>
        {
            TensorEntry[] routers = [.. Enumerable.Range(0, _model.Layers.Count).Select(j => file[$"{prefix}{Encoder}.{ladder}.routers.{j}.linear.weight"])];
            foreach (TensorEntry router in routers)
            {
                if (router.Shape is not [>= 2 and <= 64, >= 1 and <= 65536])
                    throw new CheckpointFormatException(file.File, $"tensor \"{router.Name}\" has shape [{string.Join(", ", router.Shape)}]; a router has a row for the encoder and one for each of at most 63 experts");
            }

            return new ProbedSide((int)routers[0].Shape[1], [.. routers.Select(router => (int)router.Shape[0] - 1)]);
        }),
    ];

    public override IReadOnlyList<ImportPiece>? Pieces(ImportTarget target)
    {
        string[] name = target.Name.Split('.');
        string last = name[^1];
        IReadOnlyList<long> shape = target.Shape;
        return name switch
        {
            ["fusion", _] => Whole($"{Encoder}.com_dense.{last}"),
            ["user", "positions"] => Whole($"{User}.position_embedding.weight"),
            ["user", "norm", _] => Whole($"{User}.layer_norm.{last}"),
            ["user", "blocks", var b, var part, .. var rest] => Block($"{User}.transformer_blocks.{b}", [part, .. rest], shape),
            // Names of modalities may have dots.
            [.., "layers", var j, "router", "weight"] => Whole($"{Ladder(name, 4)}.routers.{j}.linear.weight"),
            [.., "layers", var j, "experts", var k, "down"] => Whole($"{Ladder(name, 5)}.moes.{j}.experts.{k}.fc_down.weight"),
            [.., "layers", var j, "experts", var k, "up"] => [ImportPiece.Transposed($"{Ladder(name, 5)}.moes.{j}.experts.{k}.fc_up.weight", shape[0], shape[1])],
            _ => null,
        };

        ImportPiece[] Whole(string tensor) => [ImportPiece.Whole(tensor, shape)];
    }

    private string Ladder(string[] name, int parts) => $"{Encoder}.{Ladders[Array.IndexOf(_modalities, string.Join('.', name[..^parts]))]}";

    private static IReadOnlyList<ImportPiece>? Block(string block, string[] name, IReadOnlyList<long> shape)
    {
        string attention = $"{block}.multi_head_attention", last = name[^1];
        return name switch
        {
            // One matrix here, three there; all of the attention's products are without biases there.
            ["attention", "qkv", "weight"] => [.. Products.Select(part => ImportPiece.Whole($"{attention}.{part}.weight", [shape[0] / 3, shape[1]]))],
            ["attention", "output", "weight"] => [ImportPiece.Whole($"{attention}.fc.weight", shape)],
            ["attention", _, "bias"] => [ImportPiece.Zeros(shape)],
            ["attention_norm", _] => [ImportPiece.Whole($"{attention}.layer_norm.{last}", shape)],
            ["feed_forward", "0", _] => [ImportPiece.Whole($"{block}.feed_forward.w_1.{last}", shape)],
            ["feed_forward", "1", _] => [ImportPiece.Whole($"{block}.feed_forward.w_2.{last}", shape)],
            ["feed_forward_norm", _] => [ImportPiece.Whole($"{block}.feed_forward.layer_norm.{last}", shape)],
            _ => null,
        };
    }
}
