using System.Text.Json.Nodes;
using CudaMoE.Checkpoints;
using CudaMoE.Description;
using CudaMoE.Encoders;
using CudaMoE.Tensors;
using CudaMoE.Tests.Support;

namespace CudaMoE.Tests.Encoders;

/// <summary>Folders that are not what an encoder needs are refused, and the message names file, key or tensor; settings beside config.json are followed.</summary>
public sealed class EncoderFolderTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();
    private readonly Device _device = Device.Open(TestDevices.Default);

    public void Dispose()
    {
        _device.Dispose();
        _folder.Dispose();
    }

    [Theory]
    [InlineData("hidden_act", "\"gelu_new\"", "hidden_act is \"gelu_new\"; one of gelu, relu, silu, swish is supported")]
    [InlineData("hidden_act", "\"gelu_pytorch_tanh\"", "hidden_act is \"gelu_pytorch_tanh\"")]
    [InlineData("position_embedding_type", "\"relative_key\"", "position_embedding_type is \"relative_key\"; only absolute is supported")]
    [InlineData("model_type", "\"roberta\"", "model_type is \"roberta\"; one of bert, vit is supported")]
    [InlineData("is_decoder", "true", "is_decoder is true; only false is supported")]
    [InlineData("embedding_size", "128", "embedding_size is 128; only 24 is supported")]
    [InlineData("num_attention_heads", "5", "num_attention_heads is 5; it must divide hidden_size, 24")]
    [InlineData("hidden_size", "\"24\"", "hidden_size is \"24\"; it must be a whole number, 1 to 8192")]
    [InlineData("num_hidden_layers", "0", "num_hidden_layers is 0; it must be a whole number, 1 to 256")]
    [InlineData("layer_norm_eps", "0", "layer_norm_eps is 0; it must be a number above 0")]
    [InlineData("vocab_size", "null", "vocab_size is missing")]
    [InlineData("vocab_size", "5", "vocab_size of config.json is 5")]
    public void Config_WithWhatIsNotSupported_NamesTheKey(string key, string value, string message)
    {
        EncoderFolder folder = EncoderFolder.Bert(_folder["bert"], 1);
        folder.Config[key] = JsonNode.Parse(value);
        folder.Save();
        Refused(folder, message);
    }

    [Theory]
    [InlineData("image_size", "[12, 8]", "image_size is [12,8]; only squares are supported")]
    [InlineData("patch_size", "5", "patch_size is 5; it must divide image_size, 12")]
    [InlineData("qkv_bias", "1", "qkv_bias is 1; it must be true or false")]
    public void VitConfig_WithWhatIsNotSupported_NamesTheKey(string key, string value, string message)
    {
        EncoderFolder folder = EncoderFolder.Vit(_folder["vit"], 1);
        folder.Config[key] = JsonNode.Parse(value);
        folder.Save();
        Assert.Contains(message, Assert.Throws<CheckpointFormatException>(() => ImageEncoder.Open(folder.Path, _device)).Message, StringComparison.Ordinal);
        folder.Config["image_size"] = new JsonArray(12, 12);
        folder.Config["patch_size"] = 4;
        folder.Config["qkv_bias"] = true;
        folder.Save();
        using ImageEncoder good = ImageEncoder.Open(folder.Path, _device);
        Assert.Equal(10, good.Config.MaxTokens);
    }

    [Fact]
    public void Tensors_MissingExtraMisshapenOrNotFinite_AreNamedWithTheirShapes()
    {
        EncoderFolder folder = EncoderFolder.Bert(_folder["bert"], 1);
        (long[] Shape, float[] Values) weight = folder.Tensors["encoder.layer.1.intermediate.dense.weight"];

        folder.Tensors.Remove("encoder.layer.1.intermediate.dense.weight");
        folder.Save("bert.");
        Refused(folder, "tensor \"bert.encoder.layer.1.intermediate.dense.weight\" [40, 24] is missing");

        folder.Tensors["encoder.layer.1.intermediate.dense.weight"] = ([24, 40], weight.Values);
        folder.Save();
        Refused(folder, "tensor \"encoder.layer.1.intermediate.dense.weight\" has shape [24, 40]; by config.json it must be [40, 24]");

        folder.Tensors["encoder.layer.1.intermediate.dense.weight"] = weight;
        folder.Save("", TensorDataType.F32, null, "encoder.layer.2.output.dense.bias");
        Refused(folder, "tensor \"encoder.layer.2.output.dense.bias\" [2] is extra");
        folder.Save("bert.", TensorDataType.F32, null, "bert.embeddings.other");
        Refused(folder, "tensor \"bert.embeddings.other\" [2] is extra");

        folder.Save();
        folder.Config["num_hidden_layers"] = 1;
        folder.Save();
        Refused(folder, "tensor \"encoder.layer.1.");
        folder.Config["num_hidden_layers"] = 2;

        weight.Values[7] = float.NaN;
        folder.Save();
        Refused(folder, "tensor \"encoder.layer.1.intermediate.dense.weight\" holds a number that is not finite");
        weight.Values[7] = 0;

        folder.Save();
        byte[] whole = File.ReadAllBytes(Path.Combine(folder.Path, "model.safetensors"));
        File.WriteAllBytes(Path.Combine(folder.Path, "model.safetensors"), whole[..^9]);
        Refused(folder, "model.safetensors");

        // The wrong number of elements in each of the tensors, one at a time.
        foreach (string name in folder.Tensors.Keys.ToArray())
        {
            (long[] Shape, float[] Values) right = folder.Tensors[name];
            folder.Tensors[name] = ([right.Values.Length + 1L], [.. right.Values, 0]);
            folder.Save();
            Refused(folder, $"tensor \"{name}\" has shape [{right.Values.Length + 1}]; by config.json it must be [{string.Join(", ", right.Shape)}]");
            folder.Tensors[name] = right;
        }
    }

    [Fact]
    public void Files_ThatAreMissingOrNoJson_AreNamed()
    {
        Assert.Contains("config.json: is missing, and so is its folder", Assert.Throws<CheckpointFormatException>(() => TextEncoder.Open(_folder["none"], _device)).Message, StringComparison.Ordinal);
        EncoderFolder folder = EncoderFolder.Bert(_folder["bert"], 1);
        string weights = Path.Combine(folder.Path, "model.safetensors"), vocabulary = Path.Combine(folder.Path, "vocab.txt");
        File.Move(weights, weights + ".x");
        Refused(folder, "model.safetensors: is missing; it holds the encoder's weights");
        File.WriteAllText(Path.Combine(folder.Path, "pytorch_model.bin"), "");
        Refused(folder, "pytorch_model.bin is not read");
        File.WriteAllText(weights + ".index.json", "{}");
        Refused(folder, "weights in several files are not supported");
        File.Move(weights + ".x", weights);
        File.Move(vocabulary, vocabulary + ".x");
        Refused(folder, "vocab.txt: is missing");
        File.Move(vocabulary + ".x", vocabulary);
        folder.Write("config.json", "[1]");
        Refused(folder, "config.json: holds Array; it must be a JSON object");
        folder.Write("config.json", "{");
        Refused(folder, "config.json: is not JSON");
        File.Delete(Path.Combine(folder.Path, "config.json"));
        Refused(folder, "config.json: is missing; an encoder's folder has");
        EncoderFolder vit = EncoderFolder.Vit(_folder["vit"], 1);
        Refused(vit, "model_type is \"vit\", an encoder of pictures");
        Assert.Contains("pictures need one", Assert.Throws<CheckpointFormatException>(() => ImageEncoder.Open(EncoderFolder.Bert(_folder["bert"], 1).Path, _device)).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("tokenizer_config.json", """{"tokenizer_class":"RobertaTokenizer"}""", "tokenizer_class is \"RobertaTokenizer\"")]
    [InlineData("tokenizer_config.json", """{"do_basic_tokenize":false}""", "do_basic_tokenize is false; only true is supported")]
    [InlineData("tokenizer_config.json", """{"do_lower_case":"yes"}""", "do_lower_case is \"yes\"; it must be true or false")]
    [InlineData("tokenizer_config.json", """{"unk_token":"<unk>"}""", "has no token \"<unk>\", which is the unk_token")]
    [InlineData("tokenizer_config.json", """{"model_max_length":1}""", "the most tokens of a text are 1")]
    [InlineData("1_Pooling/config.json", """{"pooling_mode_max_tokens":true}""", "pooling_mode_max_tokens is true; only false is supported")]
    [InlineData("1_Pooling/config.json", """{"pooling_mode_cls_token":true,"pooling_mode_mean_tokens":true}""", "are both true")]
    public void Settings_ThatAreNotSupported_AreNamed(string file, string text, string message)
    {
        EncoderFolder folder = EncoderFolder.Bert(_folder["bert"], 1);
        folder.Write(file, text);
        Refused(folder, message);
    }

    [Fact]
    public void Settings_OfASentenceEncoder_AreFollowed_AndOptionsWin()
    {
        EncoderFolder folder = EncoderFolder.Bert(_folder["bert"], 1);
        Assert.Equal((20, TokenPooling.Cls), Settings());
        folder.Write("tokenizer_config.json", """{"model_max_length":1e30,"unk_token":{"content":"[UNK]"},"strip_accents":null,"tokenizer_class":"BertTokenizerFast","other":[]}""");
        Assert.Equal((20, TokenPooling.Cls), Settings());
        folder.Write("tokenizer_config.json", """{"model_max_length":16,"do_lower_case":false}""");
        Assert.Equal((16, TokenPooling.Cls), Settings());
        folder.Write("sentence_bert_config.json", """{"max_seq_length":12,"do_lower_case":false}""");
        folder.Write("1_Pooling/config.json", """{"word_embedding_dimension":24,"pooling_mode_cls_token":false,"pooling_mode_mean_tokens":true,"pooling_mode_max_tokens":false}""");
        Assert.Equal((12, TokenPooling.Mean), Settings());
        Assert.Equal((5, TokenPooling.Cls), Settings(new() { MaxTokens = 5, Pooling = TokenPooling.Cls }));

        (int, TokenPooling) Settings(EncoderOptions? options = null)
        {
            using TextEncoder encoder = TextEncoder.Open(folder.Path, _device, options);
            return (encoder.MaxTokens, encoder.Pooling);
        }
    }

    [Fact]
    public void Options_ThatDoNotFit_AreRefused()
    {
        EncoderFolder folder = EncoderFolder.Bert(_folder["bert"], 1);
        Check("the encoder has the states 0 to 2", new() { Layers = [0, 3] });
        Check("layer 1 is wanted behind 1; they must ascend", new() { Layers = [1, 1] });
        Check("no layer is wanted", new() { Layers = [] });
        Check("give one of the two", new() { Layers = [1], OutputOnly = true });
        Check("21 tokens of a text are wanted; the encoder takes 2 to 20", new() { MaxTokens = 21 });
        Check("0 tokens of a batch are wanted", new() { BatchTokens = 0 });
        Assert.Equal(0, _device.QueryInfo().LiveBytes);

        void Check(string message, EncoderOptions options) =>
            Assert.Contains(message, Assert.Throws<CudaMoEException>(() => TextEncoder.Open(folder.Path, _device, options)).Message, StringComparison.Ordinal);
    }

    private void Refused(EncoderFolder folder, string message)
    {
        CheckpointFormatException error = Assert.Throws<CheckpointFormatException>(() => TextEncoder.Open(folder.Path, _device));
        Assert.Contains(message, error.Message, StringComparison.Ordinal);
        Assert.Equal(0, _device.QueryInfo().LiveBytes);
    }
}
