// The sample scene: put this on an empty object of an empty scene, give it a picture, and press Play.
using Topos.Unity;
using UnityEngine;

/// <summary>Makes a camera, a light and a head, which opens and closes its mouth once it is done.</summary>
public sealed class PortraitScene : MonoBehaviour
{
    public Texture2D Portrait;
    public Material Skin;
    PortraitHead head;

    void Start()
    {
        var camera = new GameObject("camera").AddComponent<Camera>();
        camera.nearClipPlane = 0.01f;
        camera.transform.position = new Vector3(0f, 0f, 0.6f); // heads look along +Z, and are 0.24 m tall
        camera.transform.LookAt(Vector3.zero);
        var light = new GameObject("light").AddComponent<Light>();
        light.type = LightType.Directional;
        light.transform.position = new Vector3(0.5f, 0.5f, 1f);
        light.transform.LookAt(Vector3.zero);
        var made = new GameObject("head");
        made.AddComponent<SkinnedMeshRenderer>().sharedMaterial = Skin != null ? Skin : Plain();
        head = made.AddComponent<PortraitHead>();
        head.Portrait = Portrait;
    }

    void Update()
    {
        if (head.Done) head.SetShape("jawOpen", Mathf.PingPong(Time.time, 1f));
    }

    static Material Plain()
    {
        Shader shader = Shader.Find("Universal Render Pipeline/Lit");
        return new Material(shader != null ? shader : Shader.Find("Standard"));
    }
}
