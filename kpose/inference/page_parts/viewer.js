(function () {
  const place = document.getElementById("view");
  const status = document.getElementById("status");
  const buttons = Array.from(document.querySelectorAll("button[data-mesh]"));
  let renderer;
  try {
    renderer = new THREE.WebGLRenderer({ antialias: true, alpha: true });
  } catch (error) {
    status.textContent = "This browser cannot draw in 3D: " + error.message;
    return;
  }
  renderer.outputEncoding = THREE.sRGBEncoding;
  renderer.setPixelRatio(window.devicePixelRatio);
  place.appendChild(renderer.domElement);

  const scene = new THREE.Scene();
  const camera = new THREE.PerspectiveCamera(30, 1, 0.01, 1000);
  const light = new THREE.DirectionalLight(0xffffff, 0.6);
  scene.add(new THREE.HemisphereLight(0xffffff, 0xb0b0b0, 0.7), light, camera);
  const controls = new THREE.TrackballControls(camera, renderer.domElement);
  controls.rotateSpeed = 3;

  let shown = null;
  let wanted = null;

  function fit(mesh) {
    const sphere = new THREE.Box3().setFromObject(mesh).getBoundingSphere(new THREE.Sphere());
    const distance = sphere.radius / Math.sin((camera.fov * Math.PI) / 360);
    controls.reset();
    controls.target.copy(sphere.center);
    // From its left side and somewhat from the front and above: +x is the left, +z the front, +y up.
    const direction = new THREE.Vector3(0.85, 0.3, 0.45).normalize();
    camera.position.copy(sphere.center).addScaledVector(direction, distance);
    camera.up.set(0, 1, 0);
    camera.near = distance / 100;
    camera.far = distance * 100;
    resize();
  }

  function resize() {
    const width = place.clientWidth, height = place.clientHeight;
    camera.aspect = width / height;
    // A narrow view shows as much across as a square one.
    camera.zoom = Math.min(1, camera.aspect);
    camera.updateProjectionMatrix();
    renderer.setSize(width, height);
    controls.handleResize();
  }

  // Called by the scripts that hold a mesh.
  window.showMesh = function (base64) {
    const bytes = Uint8Array.from(atob(base64), function (letter) { return letter.charCodeAt(0); });
    const button = wanted;
    new THREE.GLTFLoader().parse(bytes.buffer, "", function (file) {
      if (button !== wanted) return;
      if (shown) scene.remove(shown);
      shown = file.scene;
      scene.add(shown);
      fit(shown);
      status.textContent = button.dataset.name;
    }, function (error) {
      status.textContent = button.dataset.name + " cannot be shown: " + (error.message || error);
    });
  };

  function choose(button) {
    wanted = button;
    buttons.forEach(function (other) { other.setAttribute("aria-pressed", String(other === button)); });
    const script = document.createElement("script");
    script.src = button.dataset.mesh;
    script.onload = function () { script.remove(); };
    script.onerror = function () { status.textContent = "There is no file " + button.dataset.mesh; };
    document.body.appendChild(script);
  }

  buttons.forEach(function (button) { button.addEventListener("click", function () { choose(button); }); });
  window.addEventListener("resize", resize);
  (function draw() {
    requestAnimationFrame(draw);
    controls.update();
    light.position.copy(camera.position);
    renderer.render(scene, camera);
  })();
  resize();
  if (buttons.length) choose(buttons[0]);
})();
